"""Objectives: how a batch's update is computed, and what is measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from bioplaus.config import LoopConfig
from bioplaus.costs import AbstractCost, FunctionCost, GivenSlope, SquaredError
from bioplaus.data import Dataset
from bioplaus.errors import InputError
from bioplaus.estimators import AbstractEstimator
from bioplaus.fields import VectorField
from bioplaus.sharding import Shards, Step
from bioplaus.training.additions import Additions
from bioplaus.training.records import ERRORS, StepRecord, Summary, step_type
from bridge.headline import Headline
from bridge.optim import Optimizer
from bridge.schedules import Schedule


class Pupil(Protocol):
    """The parts of a run that an objective uses."""

    @property
    def config(self) -> LoopConfig: ...
    @property
    def dataset(self) -> Dataset: ...
    @property
    def field(self) -> VectorField: ...
    @property
    def estimator(self) -> AbstractEstimator: ...
    @property
    def optimizer(self) -> Optimizer: ...
    @property
    def shards(self) -> Shards: ...
    @property
    def more(self) -> Additions: ...


class AbstractObjective(ABC):
    """The learning signal of a training run.

    An objective without targets gives the slope of a cost at the free state, which stays fixed in
    the nudged phases, see `bioplaus.costs.GivenSlope`.
    """

    name: str
    has_targets: bool = False
    """Whether the outputs have targets: labels or vectors."""
    cost: AbstractCost = GivenSlope()
    """The cost whose slope nudges the outputs."""
    step_measures: tuple[str, ...] = ()
    """Measures of a step in addition to those of its phases; means over the rows of a batch."""
    epoch_measures: tuple[str, ...] = ()
    """Measures of an epoch in addition to the means of `step_measures`; see `measured`."""

    @property
    def step_record(self) -> type:
        """The type of a step's records."""
        return step_type(self.step_measures)

    @property
    def epoch_names(self) -> tuple[str, ...]:
        """The names of all measures of an epoch in addition to those of its phases."""
        return (*self.step_measures, *self.epoch_measures)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings for the log, as plain values."""
        return {"name": self.name}

    @property
    def code(self) -> Mapping[str, Any]:
        """Objects that may be user code, by role; the log records their file and hash."""
        return {}

    def courses(self, steps: int) -> Mapping[str, Schedule]:
        """The schedules that depend on a run's number of steps, see `bridge.config.Config`."""
        return {}

    def check(self, field: VectorField, dataset: Dataset) -> None:
        """Reject data or a field that the objective cannot serve.

        Raises:
            InputError: the message says why and what to use.
        """
        m, n = dataset.num_outputs, field.n_output
        if m != n and not (dataset.has_labels and m < n):
            what = "classes" if dataset.has_labels else "numbers a target"
            raise InputError(
                f"data has {m} {what}, but the field has n_output={n}; make a field of {m} outputs"
            )

    def begin(self, run: Pupil) -> None:
        """Prepare for a run, which afterwards starts or is restored from a snapshot."""
        return

    @abstractmethod
    def estimate(self, run: Pupil, rows: Tensor) -> Step:
        """Compute the update on some training rows, with `step_measures` and those of the phases.

        Args:
            run: provides the field, the estimator and the data.
            rows: indices into the training set, [B].
        """

    @abstractmethod
    def example(self, run: Pupil, rows: Tensor) -> tuple[Tensor, Tensor, AbstractCost]:
        """Inputs, targets and cost for some rows, for gradient checks and diagnosis.

        It must not draw random numbers that the run depends on.
        """

    @abstractmethod
    def measured(self, run: Pupil) -> dict[str, float]:
        """The `epoch_measures` of the current field."""

    def headline(self, run: Pupil) -> Headline | None:
        """The headline metric of a run: the first of `epoch_measures`, where less is better."""
        if not self.epoch_measures:
            return None
        return Headline(metric=f"epochs/{self.epoch_measures[0]}", over="epoch")

    @abstractmethod
    def summary(self, last: Mapping[str, float], **common: Any) -> Any:
        """Summarise a run from the measures of its last epoch, as a dataclass.

        Args:
            last: the measures in `epoch_names`, by name.
            common: epochs, seconds and images_per_second.
        """

    def generators(self) -> dict[str, torch.Generator]:
        """The random generators that it uses, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The state that the next step needs, without parameters, optimizer and generators."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        return


@dataclass(frozen=True)
class Supervised(AbstractObjective):
    """Supervised learning: the outputs have targets, labels or vectors, under a cost."""

    name = "supervised"
    has_targets = True
    step_measures = ("cost", "train_error")
    epoch_measures = ("test_error",)
    cost: AbstractCost = field(default_factory=SquaredError)

    @property
    def code(self) -> Mapping[str, Any]:
        cost = self.cost
        return {"cost": cost.function if isinstance(cost, FunctionCost) else type(cost)}

    @property
    def step_record(self) -> type:
        return StepRecord

    @property
    def epoch_names(self) -> tuple[str, ...]:
        return ERRORS

    def estimate(self, run: Pupil, rows: Tensor) -> Step:
        x, y = run.more.inputs(rows), run.more.targets(rows)
        step = run.shards.estimate(run.estimator, run.field, x, y, self.cost)
        if not run.dataset.has_labels:
            step.values["train_error"] = math.nan
        return step

    def example(self, run: Pupil, rows: Tensor) -> tuple[Tensor, Tensor, AbstractCost]:
        return run.dataset.train.inputs[rows], run.more.targets(rows), self.cost

    def measured(self, run: Pupil) -> dict[str, float]:
        settling, rows = run.estimator.settling, run.config.evaluation_batch
        both = run.config.test_mirrored
        return {"test_error": run.shards.error_rate(run.field, run.dataset, settling, rows, both)}

    def headline(self, run: Pupil) -> Headline:
        if not run.dataset.has_labels:
            return Headline(metric="epochs/cost", over="epoch")
        column = "test_error" if len(run.dataset.test) else "train_error"
        return Headline(metric=f"epochs/{column}", unit="%", over="epoch")

    def summary(self, last: Mapping[str, float], **common: Any) -> Summary:
        return Summary(test_error=last["test_error"], train_error=last["train_error"], **common)
