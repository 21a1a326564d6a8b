"""The config of `eqprop-run`, and the plain objects that it describes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from bioplaus.config.fields import (
    ActivationName,
    Coordinates,
    CostName,
    Count,
    Degrees,
    Engine,
    EstimatorName,
    NonNegative,
    Nudge,
    Nudging,
    Positive,
    Solver,
)
from bioplaus.engines import SERVED, Brian2
from bioplaus.errors import InputError
from bioplaus.estimators import AbstractEstimator, get_estimator
from bioplaus.fields import LeakyField
from bioplaus.phases import Settling
from bioplaus.solvers import AbstractSolver, get_solver
from bridge.config import Config, load_config
from bridge.optim import Optimizer
from bridge.seeding import generator


class DataConfig(Config):
    """What is learnt."""

    dataset: str = "mnist"
    data_dir: str | None = None
    train_size: Count | None = None
    test_size: Count | None = None


class NetworkConfig(Config):
    """The leaky integrators; see `bioplaus.fields.LeakyField`."""

    hidden: tuple[Count, ...] = (512,)
    activation: ActivationName = "hard-sigmoid"
    coordinates: Coordinates = "clipped"
    linear_output: bool = True
    tied: bool = False
    gain: Positive = 1.0
    feedback_gain: Positive = 0.5
    angle: Degrees = 90.0


class BrianConfig(Config):
    """The simulations of the engine brian2; see `bioplaus.engines`."""

    tau: str = "10 ms"
    method: Literal["euler", "exponential_euler", "rk4"] = "euler"
    target: Literal["numpy", "cython"] = "numpy"


class PhaseConfig(Config):
    """How phases settle; see `bioplaus.phases.Settling` and `bioplaus.solvers`.

    `solver`, `memory` and `check_every` are of the engine torch, `brian2` of the engine brian2;
    its steps, as those of the solver `euler`, are of `dt` membrane time constants.
    """

    engine: Engine = "torch"
    brian2: BrianConfig = BrianConfig()
    solver: Solver = "sweeps"
    dt: Annotated[float, Field(gt=0, le=1)] = 0.5
    memory: Count = 3
    tolerance: NonNegative = 1e-3
    free_steps: Count = 30
    nudged_steps: Count = 15
    check_every: Count = 1
    gate: Positive = 0.1


class EstimatorConfig(Config):
    """Where the update comes from; see `bioplaus.estimators`."""

    name: EstimatorName = "vector-field"
    cost: CostName = "cross-entropy"
    beta: Nudge = 0.5
    nudging: Nudging = "centered"
    points: Count = 4
    rate: NonNegative = 0.01
    strength: NonNegative = 0.01
    decay: NonNegative = 1e-3


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
    """A run of equilibrium propagation.

    `micro_shards` parts of a batch are estimated apart and added in a fixed order, so that any
    number of processes that divides it gives the same numbers.
    """

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    phases: PhaseConfig = PhaseConfig()
    estimator: EstimatorConfig = EstimatorConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    epochs: Count = 10
    batch_size: Count = 50
    micro_shards: Count = 1
    evaluation_batch: Count = 500
    seed: Annotated[int, Field(ge=0)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    log_every: Count = 1
    check_gradients_every: Annotated[int, Field(ge=0)] = 0
    check_rows: Count = 20


def make_field(
    config: EqpropConfig, sizes: Sequence[int], device: torch.device | str = "cpu"
) -> LeakyField:
    """Draw the network of a run."""
    network = config.network
    return LeakyField(
        sizes,
        network.activation,
        coordinates=network.coordinates,
        linear_output=network.linear_output,
        tied=network.tied,
        gain=network.gain,
        feedback_gain=1.0 if network.tied else network.feedback_gain,
        angle=network.angle,
        generator=generator(config.seed, "weights"),
        dtype=getattr(torch, config.dtype),
        device=device,
    )


def make_engine(settings: BrianConfig, dt: float, estimators: Sequence[str]) -> AbstractSolver:
    """The second simulator, if it can serve the estimators.

    Raises:
        InputError: it cannot, its settings are wrong, or brian2 is not installed.
    """
    for name in estimators:
        if name not in SERVED:
            raise InputError(
                f"the engine brian2 has no circuit for estimator={name!r}; use one of "
                f"{', '.join(SERVED)}, or the engine torch"
            )
    return Brian2(settings.tau, dt, settings.method, settings.target)


def make_solver(name: str, dt: float = 0.5, memory: int = 3) -> AbstractSolver:
    """A solver of torch with those of the settings that it has."""
    settings: dict[str, dict[str, float]] = {"euler": {"dt": dt}, "anderson": {"memory": memory}}
    return get_solver(name, **settings.get(name, {}))


def make_settling(phases: PhaseConfig, estimators: Sequence[str] = ()) -> Settling:
    """How the phases of a run settle."""
    torches = phases.engine == "torch"
    return Settling(
        make_solver(phases.solver, phases.dt, phases.memory)
        if torches
        else make_engine(phases.brian2, phases.dt, estimators),
        phases.tolerance,
        phases.free_steps,
        phases.nudged_steps,
        phases.check_every,
        verify=False,  # once an epoch is enough, see `bioplaus.training`
    )


def estimator_settings(config: EqpropConfig) -> dict[str, Any]:
    """The fields that an estimator may have beside its phases and beta."""
    chosen = config.estimator.model_dump(include={"nudging", "points", "rate", "strength", "decay"})
    return chosen | {"generator": generator(config.seed, "nudging")}


def make_estimator(config: EqpropConfig) -> AbstractEstimator:
    """The estimator of a run."""
    chosen = get_estimator(config.estimator.name)
    known = {f.name for f in dataclasses.fields(chosen)}
    offered = {"beta": config.estimator.beta, **estimator_settings(config)}
    return chosen(
        settling=make_settling(config.phases, [config.estimator.name]),
        gate=config.phases.gate,
        **{name: value for name, value in offered.items() if name in known},
    )


def make_optimizer(config: EqpropConfig, field: LeakyField, images: int) -> Optimizer:
    """The optimizer of a run over so many images an epoch."""
    settings = config.optimizer
    rates = dict(settings.rates)
    if "output" in rates:
        multiplier, last = rates.pop("output"), len(field.layers)
        for name in (f"forward.{last}", f"bias.{last}", f"feedback.{last - 1}"):
            if name in field.parameters:
                rates.setdefault(name, multiplier)
    return Optimizer(
        field.parameters,
        method=settings.method,
        learning_rate=settings.learning_rate,
        rates=rates,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
        total_steps=config.epochs * -(-images // config.batch_size),
        warmup_steps=settings.warmup_steps,
        clip_norm=settings.clip_norm,
    )


def restore_field(settings: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> LeakyField:
    """The network of a run's log, from its config and its weights.

    Raises:
        InputError: the log is not one of `eqprop-run`, or its weights are of other shapes.
    """
    if "network" not in settings or "forward.1" not in weights:
        raise InputError("this log holds no network: give a log of eqprop-run")
    config = load_config(EqpropConfig, flags=dict(settings))
    depth = sum(name.startswith("bias.") for name in weights)
    sizes = [weights["forward.1"].shape[1]]
    sizes += [len(weights[f"bias.{k}"]) for k in range(1, depth + 1)]
    field = make_field(config, sizes)
    for name, parameter in field.parameters.items():
        stored = weights.get(name)
        if stored is None or stored.shape != tuple(parameter.shape):
            raise InputError(f"this log's weights do not fit its network at {name}")
        parameter.copy_(torch.from_numpy(stored))
    return field
