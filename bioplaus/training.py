"""The training loop of `eqprop-run`: it turns batches into records and knows nothing of files."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bioplaus.config import (
    EqpropConfig,
    Task,
    estimator_settings,
    make_dataset,
    make_estimator,
    make_optimizer,
    origins,
    resolve,
    task_of,
)
from bioplaus.costs import AbstractCost
from bioplaus.data import Dataset, batches
from bioplaus.diagnosis import explain, find_cure, stability, weaker_feedback
from bioplaus.estimators import AbstractEstimator
from bioplaus.fields import LayeredField, VectorField
from bioplaus.gradient_check import check_gradients
from bioplaus.gradient_row import record_type, records
from bioplaus.measuring import Tally, alignments
from bioplaus.sharding import AbstractGroup, Shards
from bioplaus.solvers import Status
from bridge.card import Card
from bridge.checkpoint import loading, random_states, restore, set_random_states
from bridge.distributed import Group
from bridge.errors import RunFailed
from bridge.optim import Optimizer
from bridge.seeding import generator
from bridge.usercode import Provenance

PATIENCE = 50
"""Steps in a row without one row inside the gate after which a run has failed."""


@dataclass(frozen=True)
class StepRecord:
    """What one update did. Errors in percent, residuals relative, steps a row."""

    step: int
    epoch: int
    cost: float
    train_error: float
    free_residual: float
    nudged_residual: float
    free_steps: float
    nudged_steps: float
    converged: float
    accepted: float
    learning_rate: float


@dataclass(frozen=True)
class Summary:
    """The end of a run: errors in percent."""

    test_error: float
    train_error: float
    epochs: int
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Run:
    """Everything that a run is made of, built from a config."""

    config: EqpropConfig
    dataset: Dataset
    field: VectorField
    task: Task
    cost: AbstractCost
    estimator: AbstractEstimator
    optimizer: Optimizer
    shards: Shards
    order: torch.Generator
    device: torch.device
    origins: tuple[Provenance, ...] = ()
    """Where the users' code comes from."""

    @property
    def card(self) -> Card:
        """What was read."""
        return Card(self.dataset.name, self.dataset.facts.of, self.dataset.facts.warnings)

    @cached_property
    def epoch_record(self) -> type:
        """The type of an epoch's record; it has one alignment for each pair of weights."""
        pairs = [(name, float) for name in alignments(self.field)]
        return dataclasses.make_dataclass("EpochRecord", _EPOCH_FIELDS + pairs, frozen=True)

    @cached_property
    def check_record(self) -> type:
        """The type of a gradient check's records."""
        return record_type([self.estimator.name], ["implicit"], self.field.parameters)


_EPOCH_FIELDS: list[Any] = [
    ("step", int),
    ("epoch", int),
    ("cost", float),
    ("train_error", float),
    ("test_error", float),
    ("free_residual", float),
    ("nudged_residual", float),
    ("free_steps", float),
    ("nudged_steps", float),
    ("converged", float),
    ("accepted", float),
    ("stability", float),
    ("images_per_second", float),
    ("seconds", float),
]


def build(
    config: EqpropConfig, device: torch.device | str = "cpu", group: AbstractGroup | None = None
) -> Run:
    """Make the plain objects that a config describes.

    Args:
        config: of the run.
        device: where to compute.
        group: the processes that share the work; this one alone if None.

    Raises:
        InputError: the data set cannot be read, or settings do not fit together.
    """
    device, dtype = torch.device(device), getattr(torch, config.dtype)
    dataset = make_dataset(config.data, dtype)
    task = task_of(config, dataset, device)
    field, estimator = config.network.draw(task), make_estimator(config)
    cost = resolve("cost", config.estimator.cost)
    estimator.check(field, cost)
    shards = Shards(field, config.micro_shards, group or Group())
    return Run(
        config=config,
        dataset=_shaped(dataset, field).to(device),
        field=field,
        task=task,
        cost=cost,
        estimator=estimator,
        optimizer=make_optimizer(config, field, len(dataset.train)),
        shards=shards,
        order=generator(config.seed, "batches"),
        device=device,
        origins=origins(config),
    )


def _shaped(dataset: Dataset, field: VectorField) -> Dataset:
    """The data with inputs of the shape that a field says; layered ones take them flat."""
    if field.input is None or len(field.input) == 1 or isinstance(field, LayeredField):
        return dataset
    parts = {
        name: dataclasses.replace(part, inputs=part.inputs.view(-1, *field.input))
        for name, part in (("train", dataset.train), ("test", dataset.test))
    }
    return dataclasses.replace(dataset, **parts)


def train(
    run: Run,
    *,
    on_step: Callable[[StepRecord], None],
    on_epoch: Callable[[Any], None],
    on_check: Callable[[Any], None] = lambda record: None,
    advance: Callable[[int], None] = lambda images: None,
    start: Mapping[str, Any] | None = None,
    after_step: Callable[[int, Callable[[], Any]], None] = lambda step, snapshot: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Train for the config's epochs.

    Args:
        run: what `build` made; its field learns in place.
        on_step: given the record of every `log_every`-th step.
        on_epoch: given the record of each epoch, of type `run.epoch_record`.
        on_check: given the records of each gradient check, of type `run.check_record`.
        advance: told the number of images after each step.
        start: what a snapshot gave; from there on everything is as if nothing had happened.
        after_step: told the number of each step that is done and recorded, and a function that
            makes a snapshot of all that is needed to go on.
        warn: told of an epoch that ends with free points which do not attract.

    Raises:
        RunFailed: the network diverged; the message says cause and remedy.
        InputError: `start` does not fit the run.
    """
    config, dataset = run.config, run.dataset
    at = _Position(run) if start is None else _Position.restored(run, start)
    advance(at.images)
    targets = dataset.vectors(dataset.train.targets, run.field.dtype)
    while at.epoch <= config.epochs:
        epoch_began = time.perf_counter() - at.epoch_seconds
        order = list(batches(len(targets), config.batch_size, run.order))
        for rows in order[at.batch :]:
            rate = run.optimizer.learning_rate
            rows = rows.to(run.device)
            x, y = dataset.train.inputs[rows], targets[rows]
            done = run.shards.estimate(run.estimator, run.field, x, y, run.cost)
            run.optimizer.step(done.updates)
            run.field.constrain()
            values, at.status = done.values, Status(int(done.values.pop("status")))
            if not dataset.has_labels:
                values["train_error"] = math.nan
            at.count(values, len(rows))
            if at.rejected >= PATIENCE:
                raise RunFailed(_diagnosis(run, x, y, at, values))
            every = config.check_gradients_every
            if every and at.step % every == 0 and run.shards.writes:
                for checked in _check(run, x, y, at.step):
                    on_check(checked)
            if at.step % config.log_every == 0:
                on_step(StepRecord(step=at.step, epoch=at.epoch, learning_rate=rate, **values))
            advance(len(rows))
            at.epoch_seconds = time.perf_counter() - epoch_began
            if at.batch == len(order):
                _require_sound(run, at.step)
                record = at.finish_epoch(run)
                on_epoch(record)
                if record.stability >= 0:
                    warn(_unstable(record, config))
            after_step(at.step, lambda: at.snapshot(run))
    return Summary(
        test_error=at.errors["test_error"],
        train_error=at.errors["train_error"],
        epochs=config.epochs,
        seconds=at.seconds,
        images_per_second=config.epochs * len(targets) / at.trained,
    )


class _Position:
    """Where a run stands between two steps.

    Args:
        run: at its start, or as it was when the epoch began.
    """

    def __init__(self, run: Run) -> None:
        self.step, self.epoch, self.batch, self.images = 0, 1, 0, 0
        self.rejected = 0
        self.status = Status.CONVERGED
        self.tally = Tally()
        self.errors: dict[str, float] = {}
        self.trained = self.epoch_seconds = 0.0
        # The order of an epoch is drawn at its beginning.
        self.order = run.order.get_state()
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the run began, without the time between a stop and a resumption."""
        return time.perf_counter() - self._began

    def count(self, values: dict[str, float], rows: int) -> None:
        self.step += 1
        self.batch += 1
        self.images += rows
        self.rejected = 0 if values["accepted"] > 0 else self.rejected + 1
        self.tally.add(values, rows)

    def finish_epoch(self, run: Run) -> Any:
        """Measure the epoch and go to the next one."""
        images = len(run.dataset.train)
        record = run.epoch_record(
            step=self.step,
            epoch=self.epoch,
            test_error=_test_error(run),
            stability=_stability(run),
            images_per_second=images / self.epoch_seconds,
            seconds=self.seconds,
            **self.tally.means(),
            **alignments(run.field),
        )
        self.errors = {n: getattr(record, n) for n in ("test_error", "train_error")}
        self.trained += self.epoch_seconds
        self.epoch, self.batch, self.tally, self.epoch_seconds = self.epoch + 1, 0, Tally(), 0.0
        self.order = run.order.get_state()
        return record

    def snapshot(self, run: Run) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            **{name: getattr(self, name) for name in _COUNTERS},
            "tally": {"sums": self.tally.sums, "rows": self.tally.rows},
            "seconds": self.seconds,
            "parameters": run.field.parameters,
            "optimizer": run.optimizer.state_dict(),
            "random": random_states(**_generators(run)) | {"order": self.order},
        }

    @classmethod
    def restored(cls, run: Run, saved: Mapping[str, Any]) -> _Position:
        """Put a run and its position back to where a snapshot was made.

        Raises:
            InputError: the snapshot is of another run.
        """
        with loading():
            restore(run.field.parameters, saved["parameters"])
            run.optimizer.load_state_dict(saved["optimizer"])
            set_random_states(saved["random"], **_generators(run))
            at = cls(run)
            for name in _COUNTERS:
                setattr(at, name, type(getattr(at, name))(saved[name]))
            at.tally.sums = {n: float(x) for n, x in saved["tally"]["sums"].items()}
            at.tally.rows = int(saved["tally"]["rows"])
            at._began -= float(saved["seconds"])
        return at


_COUNTERS = ("step", "epoch", "batch", "images", "rejected", "errors", "trained", "epoch_seconds")


def _generators(run: Run) -> dict[str, torch.Generator]:
    nudging = getattr(run.estimator, "generator", None)
    return {"order": run.order} | ({} if nudging is None else {"nudging": nudging})


def _check(run: Run, x: Tensor, y: Tensor, step: int) -> list[Any]:
    """The running estimator against the true gradient, on the first rows of a batch.

    Where a second oracle runs, its distance stands in the rows of the first.
    """
    config, rows = run.config, run.config.check_rows
    report = check_gradients(
        run.field,
        x[:rows],
        y[:rows],
        run.cost,
        [type(run.estimator)],
        [config.estimator.settings().get("beta", 1.0)],
        settings=estimator_settings(config),
        seed=config.seed,
    )
    of_first = [row for row in report.rows if row.oracle == "implicit"]
    return records(run.check_record, report.asymmetry, of_first, step)


def _stability(run: Run) -> float:
    """Of the free points of some test images, if there are any; see `diagnosis.stability`."""
    images = run.dataset.shown.inputs[: run.config.check_rows]
    if run.config.phases.engine != "torch":
        return math.nan
    return stability(run.field, images, run.estimator.settling)


def _unstable(record: Any, config: EqpropConfig) -> str:
    gain = weaker_feedback(config.network)
    return (
        f"epoch {record.epoch}: some free points do not attract (largest real part of the "
        f"Jacobian's eigenvalues {record.stability:+.2g}): the network would leave them, and what "
        f"is learnt there is not its own; use weaker {gain}"
    )


def _test_error(run: Run) -> float:
    settling, rows = run.estimator.settling, run.config.evaluation_batch
    return run.shards.test_error(run.field, run.dataset, settling, rows)


def _diagnosis(run: Run, x: Tensor, y: Tensor, at: _Position, values: Mapping[str, float]) -> str:
    cure = find_cure(run.config, run.task, run.field, run.estimator, x, y, run.cost)
    residual = max(values["free_residual"], values["nudged_residual"])
    return explain(at.step, PATIENCE, residual, at.status, cure)


def _require_sound(run: Run, step: int) -> None:
    for name, parameter in run.field.parameters.items():
        if not bool(torch.isfinite(parameter).all()):
            raise RunFailed(
                f"the network diverged: {name} is NaN or infinite at step {step}; use a smaller "
                "learning rate (--set optimizer.learning_rate=...)"
            )
    try:
        run.shards.require_equal(run.field, step)
    except ArithmeticError as error:
        raise RunFailed(str(error)) from None
