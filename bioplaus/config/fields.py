"""Types of values that several configs have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bioplaus.activations import get_activation
from bioplaus.costs import get_cost
from bioplaus.estimators import get_estimator, get_oracle


def _estimator(name: str) -> str:
    get_estimator(name)
    return name


def _activation(name: str) -> str:
    get_activation(name)
    return name


def _cost(name: str) -> str:
    get_cost(name)
    return name


def _oracle(name: str) -> str:
    get_oracle(name)
    return name


def _nudge(beta: float) -> float:
    if beta == 0:
        raise ValueError('beta=0 has no nudge; use beta > 0 or estimator="implicit"')
    return beta


Nudge = Annotated[float, AfterValidator(_nudge)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]
Coordinates = Literal["membrane", "activity", "clipped"]
Nudging = Literal["one-sided", "centered", "random-sign"]
Solver = Literal["sweeps", "euler", "anderson"]
Engine = Literal["torch", "brian2"]
ActivationName = Annotated[str, AfterValidator(_activation)]
CostName = Annotated[str, AfterValidator(_cost)]
EstimatorName = Annotated[str, AfterValidator(_estimator)]
OracleName = Annotated[str, AfterValidator(_oracle)]
