"""Types of values that several configs have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bioplaus.activations import ACTIVATIONS
from bioplaus.config.resolving import What, resolve
from bioplaus.costs import COSTS
from bioplaus.estimators import ESTIMATORS, ORACLES
from bioplaus.solvers import SOLVERS
from bridge.config import Legal


def _one_of(names: Iterable[str], code: str) -> Legal:
    """The legal values of a setting that is one of some names, or the user's own code."""
    return Legal(f"one of {', '.join(names)}; or {code}")


def _known(what: What) -> AfterValidator:
    """Refuse a name that is none, and code that cannot be loaded or is something else."""

    def check(name: str) -> str:
        resolve(what, name)
        return name

    return AfterValidator(check)


def _nudge(beta: float) -> float:
    if beta == 0:
        raise ValueError('beta=0 has no nudge; use beta > 0 or estimator="implicit"')
    return beta


Nudge = Annotated[float, AfterValidator(_nudge)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]
Engine = Literal["torch", "brian2"]
Dtype = Literal["float32", "float64"]
SolverName = Annotated[str, _one_of(SOLVERS, "module:Class"), _known("solver")]
ActivationName = Annotated[str, _one_of(ACTIVATIONS, "module:function"), _known("activation")]
CostName = Annotated[str, _one_of(COSTS, "module:function"), _known("cost")]
EstimatorName = Annotated[str, _one_of(ESTIMATORS, "module:Class"), _known("estimator")]
OracleName = Annotated[str, _one_of(ORACLES, "module:Class"), _known("oracle")]
