"""Types of values that several configs have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bioplaus.config.resolving import What, resolve


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
SolverName = Annotated[str, _known("solver")]
ActivationName = Annotated[str, _known("activation")]
CostName = Annotated[str, _known("cost")]
EstimatorName = Annotated[str, _known("estimator")]
OracleName = Annotated[str, _known("oracle")]
