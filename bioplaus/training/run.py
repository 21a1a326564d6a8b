"""The components of a run, and how to build them from a config."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import torch

from bioplaus.config import (
    EqpropConfig,
    LoopConfig,
    Task,
    make_dataset,
    make_estimator,
    make_optimizer,
    origins,
    resolve,
    task_of,
)
from bioplaus.costs import AbstractCost
from bioplaus.data import Dataset
from bioplaus.errors import InputError
from bioplaus.estimators import AbstractEstimator
from bioplaus.fields import VectorField
from bioplaus.gradient_row import record_type
from bioplaus.measuring import ENERGIES, alignments, keeps_energy
from bioplaus.sharding import AbstractGroup, Shards
from bioplaus.training.additions import Additions
from bioplaus.training.objective import AbstractObjective, Supervised
from bioplaus.training.records import epoch_type
from bridge.card import Card
from bridge.distributed import Group
from bridge.optim import Optimizer
from bridge.seeding import generator
from bridge.usercode import Provenance


@dataclass(frozen=True)
class Run:
    """The components of a run."""

    config: LoopConfig
    dataset: Dataset
    field: VectorField
    objective: AbstractObjective
    estimator: AbstractEstimator
    optimizer: Optimizer
    shards: Shards
    order: torch.Generator
    device: torch.device
    origins: tuple[Provenance, ...] = ()
    """The origins of user code."""
    task: Task | None = None
    """The task for which the network was drawn, if the config defines the network."""
    augmenting: torch.Generator | None = None
    """Source of random numbers for augmentation; None if there is none."""

    @property
    def card(self) -> Card:
        """The description of the data that were read."""
        return Card(self.dataset.name, self.dataset.facts.of, self.dataset.facts.warnings)

    @property
    def cost(self) -> AbstractCost:
        """The cost whose slope nudges the outputs."""
        return self.objective.cost

    @property
    def step_record(self) -> type:
        """The type of a step's record."""
        return self.objective.step_record

    @cached_property
    def epoch_record(self) -> type:
        """The type of an epoch's record, with one alignment for each pair of weights.

        If the loop's radius is measured, the record has its largest value in the epoch and the
        product of all factors applied to the feedback weights. For a field with an energy, it has
        the measures of the energy.
        """
        radius = ("loop_radius", "feedback_scale") if self.looks else ()
        energy = ENERGIES if keeps_energy(self.field) else ()
        names = (*radius, *alignments(self.field), *energy)
        return epoch_type(names, self.objective.epoch_names)

    @property
    def more(self) -> Additions:
        """The optional parts of the run.

        Raises:
            InputError: a part cannot be applied to the data or the field.
        """
        return self._more

    @cached_property
    def _more(self) -> Additions:
        parts = (self.config, self.dataset, self.field, self.estimator.settling, self.augmenting)
        return Additions(*parts, has_targets=self.objective.has_targets)

    @property
    def looks(self) -> bool:
        """Whether the radius of the loop is measured."""
        return self.config.contraction.made().looks

    @cached_property
    def check_record(self) -> type:
        """The type of a gradient check's records."""
        return record_type([self.estimator.name], ["implicit"], self.field.parameters)


def build(
    config: EqpropConfig,
    device: torch.device | str = "cpu",
    group: AbstractGroup | None = None,
    dataset: Dataset | None = None,
) -> Run:
    """Make the components that a config describes.

    Args:
        config: configuration of the run.
        device: where to compute.
        group: the processes that share the work; None means only this one.
        dataset: the result of `read` for the config, if it is known already.

    Raises:
        InputError: the data set cannot be read, or settings do not fit together.
    """
    device = torch.device(device)
    if getattr(config.phases, "compile", False) and device.type != "cuda":
        raise InputError("phases.compile=true fuses recorded updates; use --device cuda, or false")
    dataset = dataset or read(config, device)
    task = task_of(config, dataset, device)
    field, estimator = config.network.draw(task), make_estimator(config)
    objective = Supervised(resolve("cost", config.estimator.cost))
    estimator.check(field, objective.cost)
    estimator.require_effect(field, "estimator.")
    return make_run(
        config,
        dataset=fitted(dataset, field, objective),
        field=field,
        objective=objective,
        estimator=estimator,
        optimizer=make_optimizer(config, field, len(dataset.train)),
        group=group,
        origins=origins(config),
        task=task,
    )


def make_run(
    config: LoopConfig,
    *,
    dataset: Dataset,
    field: VectorField,
    objective: AbstractObjective,
    estimator: AbstractEstimator,
    optimizer: Optimizer,
    group: AbstractGroup | None = None,
    origins: tuple[Provenance, ...] = (),
    task: Task | None = None,
) -> Run:
    """Assemble a run, with random generators from its seed.

    Args:
        config: configuration of the loop.
        dataset: the data as the field takes it, see `fitted`.
        field, objective, estimator, optimizer: what learns, and how.
        group: the processes that share the work; None means only this one.
        origins, task: see `Run`.

    Raises:
        InputError: settings do not fit together, or the processes cannot share the work.
    """
    run = Run(
        config=config,
        dataset=dataset,
        field=field,
        objective=objective,
        estimator=estimator,
        optimizer=optimizer,
        shards=Shards(field, config.micro_shards, group or Group()),
        order=generator(config.seed, "batches"),
        device=field.device,
        origins=origins,
        task=task,
        augmenting=_augmenting(config),
    )
    _ = run.more  # raises errors before anything starts
    return run


def read(config: EqpropConfig, device: torch.device | str = "cpu") -> Dataset:
    """Read the data set of a run onto its device.

    Raises:
        InputError: it cannot be read.
    """
    return make_dataset(config.data, getattr(torch, config.dtype)).to(torch.device(device))


def _augmenting(config: LoopConfig) -> torch.Generator | None:
    """The random generator for augmentation; None if there is none."""
    return generator(config.seed, "augmentation") if config.augment.made().acts else None


def fitted(dataset: Dataset, field: VectorField, objective: AbstractObjective) -> Dataset:
    """Convert the data to the dtype, the device and the input shape of a field.

    If the field has no `input`, it is set to the first of these shapes with which the formula
    gives a state: the data's own shape, that of an image with a leading channel, or flat.

    Raises:
        InputError: the size of the inputs does not fit the field, or the objective cannot serve it.
    """
    dataset = dataset.to(field.device, field.dtype)
    objective.check(field, dataset)
    if field.input is None:
        field.input = _found_shape(dataset, field)
    if math.prod(field.input) != dataset.input_size:
        raise InputError(
            f"data has inputs of shape {dataset.shape}, but the field takes {field.input}; make a "
            f"field of input={dataset.shape if len(dataset.shape) > 1 else dataset.input_size}"
        )
    parts = {
        name: dataclasses.replace(part, inputs=part.inputs.reshape(len(part), *field.input))
        for name, part in (("train", dataset.train), ("test", dataset.test))
    }
    return dataclasses.replace(dataset, **parts, num_outputs=field.n_output)


def _found_shape(dataset: Dataset, field: VectorField) -> tuple[int, ...]:
    flat, shape = (dataset.input_size,), dataset.shape
    row = dataset.train.inputs[:1]
    s = row.new_zeros(1, field.n)
    for tried in (shape, (1, *shape)) if len(shape) > 1 else ():
        with contextlib.suppress(Exception):  # the user's formula may raise anything
            if field.field(row.view(1, *tried), s).shape == s.shape:
                return tried
    return flat
