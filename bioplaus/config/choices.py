"""Estimators, solvers, engines and optimizers as configs: each owns its settings.

Those of an estimator and of a solver are the plain fields of its class, so that a new one, or a new
setting, is a change in the class's own file.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from bioplaus.config.code_network import field_config
from bioplaus.config.fields import CostName, Count, NonNegative, Positive
from bioplaus.config.network import LeakyConfig, NetworkConfig
from bioplaus.config.resolving import found_code
from bioplaus.engines import SERVED, Brian2, no_circuit
from bioplaus.errors import InputError
from bioplaus.estimators import (
    ESTIMATORS,
    ORACLES,
    AbstractEstimator,
    get_estimator,
    get_oracle,
    make_estimator,
)
from bioplaus.estimators.registry import estimator_class
from bioplaus.fields.registry import FIELDS
from bioplaus.phases import Settling
from bioplaus.solvers import SOLVERS, AbstractSolver, get_solver
from bridge.config import Config, Others, choice, owned
from bridge.optim import Optimizer
from bridge.schedules import ScheduleName


class EstimatorConfig(Config):
    """Where the update comes from; see `bioplaus.estimators`. Each has its own settings too.

    Attributes:
        name: the estimator: a name, or your own as module:Class or file.py:Class.
        cost: cost function C(s, y): cross-entropy, of the softmax of the output state;
            squared-error; or your own as module:function.
    """

    name: str
    cost: CostName = "cross-entropy"

    def settings(self) -> dict[str, Any]:
        """What this estimator has of its own: the plain fields of its class."""
        return self.model_dump(exclude=set(EstimatorConfig.model_fields))

    def make(self, **common: object) -> AbstractEstimator:
        """The estimator; `common` is what is set elsewhere, of which it takes what it has."""
        return make_estimator(estimator_code(self.name), **common, **self.settings())


class PhaseConfig(Config):
    """How phases settle; see `bioplaus.phases.Settling`. Engine and solver have more settings.

    Attributes:
        engine: what simulates the phases: torch, or the simulator brian2.
        tolerance: relative residual ||mu||/||s|| at which a row has converged; 0 always runs to the
            step limits.
        free_steps: largest number of steps of a free phase, including damped ones.
        nudged_steps: largest number of steps of a nudged phase, including damped ones.
        gate: rows with a residual above this are left out of the update.
    """

    engine: Any  # which one, each choice says
    tolerance: NonNegative = 1e-3
    free_steps: Count = 30
    nudged_steps: Count = 15
    gate: Positive = 0.1

    def settling(self, estimators: tuple[str, ...] = ()) -> Settling:
        """How phases settle, for these estimators.

        Raises:
            InputError: the engine cannot serve them.
        """
        return Settling(
            self.make_solver(estimators),
            self.tolerance,
            self.free_steps,
            self.nudged_steps,
            verify=False,  # once an epoch is enough, see `bioplaus.training`
        )

    def make_solver(self, estimators: tuple[str, ...]) -> AbstractSolver:
        """What moves a phase to its fixed point."""
        raise NotImplementedError


class TorchPhaseConfig(PhaseConfig):
    """Phases that a solver settles; see `bioplaus.solvers`.

    Attributes:
        solver: how a state is moved to its fixed point; see `bioplaus.solvers`.
        check_every: number of steps between checks of the residual.
        compile: let torch.compile fuse what lies between the products of recorded updates, on a
            GPU; the start takes longer, see docs/gpu.md.
    """

    engine: Literal["torch"] = "torch"
    solver: str
    check_every: Count = 1
    compile: bool = False

    def idle(self) -> dict[str, str]:
        if self.tolerance > 0:
            return {}
        why = "with tolerance=0, which takes all steps without a look; it is read with tolerance>0"
        return {"check_every": why}

    def settling(self, estimators: tuple[str, ...] = ()) -> Settling:
        return dataclasses.replace(super().settling(estimators), check_every=self.check_every)

    def make_solver(self, estimators: tuple[str, ...]) -> AbstractSolver:
        own = self.model_dump(exclude=set(TorchPhaseConfig.model_fields))
        return get_solver(self.solver, **own)


class BrianConfig(Config):
    """The simulations of the engine brian2; see `bioplaus.engines`."""

    described_by: ClassVar[tuple[Any, ...]] = (Brian2,)

    tau: str = "10 ms"
    method: Literal["euler", "exponential_euler", "rk4"] = "euler"
    target: Literal["numpy", "cython"] = "numpy"


class BrianPhaseConfig(PhaseConfig):
    """Phases that run in Brian2, in steps of `dt` membrane time constants.

    Attributes:
        dt: step size of the simulation, in membrane time constants.
    """

    engine: Literal["brian2"] = "brian2"
    brian2: BrianConfig = BrianConfig()
    dt: Annotated[float, Field(gt=0, le=1)] = 0.5

    def make_solver(self, estimators: tuple[str, ...]) -> AbstractSolver:
        return make_engine(self.brian2, self.dt, estimators)


class OptimizerConfig(Config):
    """How parameters follow the update; see `bridge.optim.Optimizer`.

    Attributes:
        method: update rule of the optimizer: sgd, momentum or adam.
        learning_rate: learning rate of the first step, before the schedule and `rates`.
        schedule: schedule of the learning rate over the run; see `bridge.schedules`.
        warmup_steps: number of steps over which the rate rises to its full value.
    """

    described_by: ClassVar[tuple[Any, ...]] = (Optimizer,)

    method: Any  # which one, each choice says
    learning_rate: Positive = 0.5
    rates: dict[str, NonNegative] = Field(default_factory=lambda: {"output": 0.1})
    weight_decay: NonNegative = 0.0
    schedule: ScheduleName = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Positive | None = None


class SgdConfig(OptimizerConfig):
    """Plain steps along the update."""

    method: Literal["sgd"] = "sgd"


class MomentumConfig(OptimizerConfig):
    """Steps along a decaying sum of updates."""

    method: Literal["momentum"] = "momentum"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class AdamConfig(OptimizerConfig):
    """Steps of the size of the learning rate."""

    method: Literal["adam"] = "adam"


def estimator_code(name: str, what: str = "estimator") -> Any:
    """What `module:name` or a name of an estimator means: its class, or one with its settings.

    Raises:
        InputError: nothing, or something else.
    """
    found = found_code(what, name, get_oracle if what == "oracle" else get_estimator)
    if isinstance(found, AbstractEstimator):
        return found
    return estimator_class(found, f"{what}={name!r}")


_BUILT: dict[tuple[str, int], tuple[Any, type[EstimatorConfig]]] = {}
"""Configs by what they are of, which is kept: equal configs are of one class."""


def estimator_config(name: object) -> type[EstimatorConfig]:
    """Make the config of an estimator that is not this package's own."""
    if not isinstance(name, str):
        raise InputError(f"estimator={name!r} must be a text: a name, module:name or file.py:name")
    found = estimator_code(name)
    key = (name, id(found))
    if key not in _BUILT:
        made = owned(found, EstimatorConfig, "name", name, leave_out=("gate",))
        _BUILT[key] = found, made
    return _BUILT[key][1]


ESTIMATOR_CONFIGS = {
    name: owned(kind, EstimatorConfig, "name", name, leave_out=("gate",))
    for name, kind in (ESTIMATORS | ORACLES).items()
}
SOLVER_CONFIGS = {
    name: owned(kind, TorchPhaseConfig, "solver", name) for name, kind in SOLVERS.items()
}
NETWORK_CONFIGS: dict[str, type[NetworkConfig]] = {
    name: LeakyConfig if name == "leaky" else field_config(name) for name in FIELDS
}
if TYPE_CHECKING:
    EstimatorChoice = EstimatorConfig
    NetworkChoice = NetworkConfig
    PhaseChoice = PhaseConfig
    OptimizerChoice = OptimizerConfig
else:
    EstimatorChoice = choice(
        "name",
        "vector-field",
        ESTIMATOR_CONFIGS,
        Others("name", "vector-field", EstimatorConfig, estimator_config),
    )
    NetworkChoice = choice(
        "field", "leaky", NETWORK_CONFIGS, Others("field", "leaky", NetworkConfig, field_config)
    )
    PhaseChoice = choice(
        "engine",
        "torch",
        {"torch": choice("solver", "sweeps", SOLVER_CONFIGS), "brian2": BrianPhaseConfig},
    )
    OptimizerChoice = choice(
        "method", "sgd", {"sgd": SgdConfig, "momentum": MomentumConfig, "adam": AdamConfig}
    )


def make_engine(settings: BrianConfig, dt: float, estimators: tuple[str, ...]) -> AbstractSolver:
    """The second simulator, if it can serve the estimators.

    Raises:
        InputError: it cannot, its settings are wrong, or brian2 is not installed.
    """
    for name in estimators:
        if name not in SERVED:
            raise InputError(no_circuit(f"estimator={name!r}"))
    return Brian2(settings.tau, dt, settings.method, settings.target)


def own_settings(settings: OptimizerConfig) -> dict[str, Any]:
    """The optimizer's settings that its method alone has."""
    return settings.model_dump(exclude={*OptimizerConfig.model_fields})
