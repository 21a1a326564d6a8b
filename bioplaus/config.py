"""The typed config of `eqprop-run`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bioplaus.activations import get_activation
from bioplaus.costs import get_cost
from bioplaus.estimators import get_estimator
from bridge.config import Config


def _estimator(name: str) -> str:
    get_estimator(name)
    return name


def _activation(name: str) -> str:
    get_activation(name)
    return name


def _cost(name: str) -> str:
    get_cost(name)
    return name


Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class DataConfig(Config):
    """What is learnt."""

    dataset: str = "mnist"
    data_dir: str | None = None
    train_size: Count | None = None
    test_size: Count | None = None


class NetworkConfig(Config):
    """The leaky integrators; see `bioplaus.fields.LeakyField`."""

    hidden: tuple[Count, ...] = (512,)
    activation: Annotated[str, AfterValidator(_activation)] = "hard-sigmoid"
    coordinates: Literal["membrane", "activity", "clipped"] = "clipped"
    linear_output: bool = True
    tied: bool = False
    gain: Positive = 1.0
    feedback_gain: Positive = 0.5
    angle: Annotated[float, Field(ge=0, le=180)] = 90.0


class PhaseConfig(Config):
    """How phases settle; see `bioplaus.phases.Settling` and `bioplaus.solvers`."""

    solver: Literal["sweeps", "euler", "anderson"] = "sweeps"
    dt: Annotated[float, Field(gt=0, le=1)] = 0.5
    memory: Count = 3
    tolerance: NonNegative = 1e-3
    free_steps: Count = 30
    nudged_steps: Count = 15
    check_every: Count = 1
    gate: Positive = 0.1


class EstimatorConfig(Config):
    """Where the update comes from; see `bioplaus.estimators`."""

    name: Annotated[str, AfterValidator(_estimator)] = "vector-field"
    cost: Annotated[str, AfterValidator(_cost)] = "cross-entropy"
    beta: float = 0.5
    nudging: Literal["one-sided", "centered", "random-sign"] = "centered"


class OptimizerConfig(Config):
    """How parameters follow the update; see `bridge.optim.Optimizer`."""

    method: Literal["sgd", "momentum", "adam"] = "sgd"
    learning_rate: Positive = 0.5
    rates: dict[str, NonNegative] = Field(default_factory=lambda: {"output": 0.1})
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 0.0
    schedule: Literal["constant", "cosine", "linear", "step"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Positive | None = None


class EqpropConfig(Config):
    """A run of equilibrium propagation."""

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    phases: PhaseConfig = PhaseConfig()
    estimator: EstimatorConfig = EstimatorConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    epochs: Count = 10
    batch_size: Count = 50
    evaluation_batch: Count = 500
    seed: Annotated[int, Field(ge=0)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    log_every: Count = 1
