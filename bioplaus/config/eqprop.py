"""The config of `eqprop-run`, and the plain objects that it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from bioplaus.config.choices import (
    ESTIMATOR_CONFIGS,
    SOLVER_CONFIGS,
    EstimatorChoice,
    OptimizerChoice,
    PhaseChoice,
    PhaseConfig,
    SgdConfig,
    own_settings,
)
from bioplaus.config.data import DataConfig
from bioplaus.config.fields import (
    ActivationName,
    Coordinates,
    Count,
    Degrees,
    Positive,
)
from bioplaus.errors import InputError
from bioplaus.estimators import AbstractEstimator
from bioplaus.fields import LeakyField
from bioplaus.phases import Settling
from bridge.config import Config, load_config
from bridge.optim import Optimizer
from bridge.schedules import Schedule, course
from bridge.seeding import generator


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

    def idle(self) -> dict[str, str]:
        found = {}
        if self.tied:
            found |= dict.fromkeys(("feedback_gain", "angle"), "with tied=true; leave out one")
        if not self.hidden:
            why = "without a hidden layer, and so without feedback; give hidden"
            found |= dict.fromkeys(("tied", "feedback_gain", "angle"), why)
            if self.linear_output:
                why = "without a hidden layer and with linear outputs; give hidden"
                found |= dict.fromkeys(("activation", "coordinates"), why)
        if self.activation == "linear" and self.coordinates != "clipped":
            found["linear_output"] = "with activation=linear"
        return found


class EqpropConfig(Config):
    """A run of equilibrium propagation.

    `micro_shards` parts of a batch are estimated apart and added in a fixed order, so that any
    number of processes that divides it gives the same numbers.
    """

    length: ClassVar[str] = "epochs"

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    phases: PhaseChoice = SOLVER_CONFIGS["sweeps"]()
    estimator: EstimatorChoice = ESTIMATOR_CONFIGS["vector-field"]()
    optimizer: OptimizerChoice = SgdConfig()
    epochs: Count = 10
    batch_size: Count = 50
    micro_shards: Count = 1
    evaluation_batch: Count = 500
    seed: Annotated[int, Field(ge=0)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    log_every: Count = 1
    check_gradients_every: Annotated[int, Field(ge=0)] = 0
    check_rows: Count = 20

    def courses(self, steps: int) -> Mapping[str, Schedule]:
        settings = self.optimizer
        return course(settings.schedule, steps, settings.warmup_steps)

    def idle(self) -> dict[str, str]:
        found = {}
        if not self.check_gradients_every:
            found["check_rows"] = "without check_gradients_every; give it too"
        if "beta" not in self.estimator.settings():
            name = self.estimator.name
            found["phases.nudged_steps"] = f"with estimator.name={name}, which has no nudged phase"
        return found


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


def make_settling(phases: PhaseConfig, estimators: Sequence[str] = ()) -> Settling:
    """How the phases of a run settle."""
    return phases.settling(tuple(estimators))


def estimator_settings(config: EqpropConfig) -> dict[str, Any]:
    """The fields that the estimator has beside its phases and beta."""
    own = {k: v for k, v in config.estimator.settings().items() if k != "beta"}
    return own | {"generator": generator(config.seed, "nudging")}


def make_estimator(config: EqpropConfig) -> AbstractEstimator:
    """The estimator of a run."""
    return config.estimator.make(
        settling=make_settling(config.phases, [config.estimator.name]),
        gate=config.phases.gate,
        generator=generator(config.seed, "nudging"),
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
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
        total_steps=config.epochs * -(-images // config.batch_size),
        warmup_steps=settings.warmup_steps,
        clip_norm=settings.clip_norm,
        **own_settings(settings),
    )


def restore_field(settings: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> LeakyField:
    """The network of a run's log, from its config and its weights.

    Raises:
        InputError: the log is not one of `eqprop-run`, or its weights are of other shapes.
    """
    if "network" not in settings or "forward.1" not in weights:
        raise InputError("this log holds no network: give a log of eqprop-run")
    config = load_config(EqpropConfig, base=settings, base_name="this log")
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
