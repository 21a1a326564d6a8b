"""The config of `eqprop-run`, and the plain objects that it describes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bioplaus.config.choices import (
    ESTIMATOR_CONFIGS,
    SOLVER_CONFIGS,
    EstimatorChoice,
    NetworkChoice,
    OptimizerChoice,
    PhaseChoice,
    PhaseConfig,
    SgdConfig,
    TorchPhaseConfig,
    own_settings,
)
from bioplaus.config.data import DataConfig, data_origins, make_dataset
from bioplaus.config.fields import Dtype
from bioplaus.config.loop import LoopConfig
from bioplaus.config.network import LeakyConfig, Task
from bioplaus.config.resolving import origins_of
from bioplaus.data import Dataset
from bioplaus.data.known import KNOWN
from bioplaus.errors import InputError
from bioplaus.estimators import AbstractEstimator
from bioplaus.fields import LayeredField, VectorField
from bioplaus.phases import Settling
from bioplaus.solvers import SOLVERS
from bridge.config import load_config
from bridge.optim import Optimizer
from bridge.schedules import Schedule, course
from bridge.seeding import generator
from bridge.usercode import Provenance


class EqpropConfig(LoopConfig):
    """A run of equilibrium propagation.

    Attributes:
        dtype: precision of parameters and states.
    """

    data: DataConfig = DataConfig()
    network: NetworkChoice = LeakyConfig()
    phases: PhaseChoice = SOLVER_CONFIGS["sweeps"]()
    estimator: EstimatorChoice = ESTIMATOR_CONFIGS["vector-field"]()
    optimizer: OptimizerChoice = SgdConfig()
    dtype: Dtype = "float32"

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
        coupling = self.network.coupling(self.outputs())
        unread = self.estimator.make().idle(coupling).items()
        found |= {f"estimator.{name}": why for name, why in unread}
        if coupling.alone is not None and isinstance(self.phases, TorchPhaseConfig):
            of_loops = SOLVERS[self.phases.solver].of_loops
            found |= {f"phases.{name}": coupling.alone for name in of_loops}
        return found

    def outputs(self) -> int | None:
        """The number of outputs, if the name of the data set tells it."""
        known = KNOWN.get(self.data.dataset)
        return None if known is None else known.classes


def task_of(config: EqpropConfig, dataset: Dataset, device: torch.device | str = "cpu") -> Task:
    """What the network of a run is drawn for."""
    dtype = getattr(torch, config.dtype)
    shape, n = dataset.shape, dataset.num_outputs
    return Task(shape, n, dataset.name, config.seed, dtype, device)


def make_settling(phases: PhaseConfig, estimators: Sequence[str] = ()) -> Settling:
    """How the phases of a run settle."""
    return phases.settling(tuple(estimators))


def make_estimator(config: EqpropConfig) -> AbstractEstimator:
    """The estimator of a run."""
    return config.estimator.make(
        settling=make_settling(config.phases, [config.estimator.name]),
        gate=config.phases.gate,
        generator=generator(config.seed, "nudging"),
    )


def make_optimizer(config: EqpropConfig, field: VectorField, images: int) -> Optimizer:
    """The optimizer of a run over so many images an epoch."""
    settings = config.optimizer
    rates = dict(settings.rates)
    if "output" in rates and "output" not in field.parameters:
        multiplier = rates.pop("output")
        for name in of_outputs(field):
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


def of_outputs(field: VectorField) -> list[str]:
    """The parameters of the output layer: its bias, and the weights into and out of it.

    None of a field that has no layers.
    """
    if not isinstance(field, LayeredField):
        return []
    last = len(field.layers)
    names = [c.name for c in field.connections if last in (c.source, c.target)]
    return [name for name in (f"bias.{last}", *names) if name in field.parameters]


def restore_field(settings: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> VectorField:
    """The network of a run's log, from its config and its weights.

    Raises:
        InputError: the log is not one of `eqprop-run`, or its weights are of other shapes.
    """
    if "network" not in settings or not weights:
        raise InputError("this log holds no network: give a log of eqprop-run")
    config = load_config(EqpropConfig, base=settings, base_name="this log")
    if "forward.1" in weights and isinstance(config.network, LeakyConfig):
        depth = sum(name.startswith("bias.") for name in weights)
        task = Task((weights["forward.1"].shape[1],), len(weights[f"bias.{depth}"]))
        hidden = tuple(len(weights[f"bias.{k}"]) for k in range(1, depth))
        network = config.network.model_copy(update={"hidden": hidden})
    else:
        few = config.data.model_copy(update={"train_size": 1, "test_size": 1, "normalise": "none"})
        task, network = task_of(config, make_dataset(few, needs_test=False)), config.network
    field = network.draw(dataclasses.replace(task, dtype=getattr(torch, config.dtype)))
    for name, parameter in field.parameters.items():
        stored = weights.get(name)
        if stored is None or stored.shape != tuple(parameter.shape):
            raise InputError(f"this log's weights do not fit its network at {name}")
        parameter.copy_(torch.from_numpy(stored))
    return field


def origins(config: EqpropConfig) -> tuple[Provenance, ...]:
    """Where the users' code comes from that a run is made of, and that of packages."""
    named = {
        "field": config.network.field,
        "activation": getattr(config.network, "activation", None),
        "estimator": config.estimator.name,
        "cost": config.estimator.cost,
    }
    of_network = origins_of((what, name) for what, name in named.items() if name)
    return data_origins(config.data) + of_network
