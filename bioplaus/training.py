"""The training loop of `eqprop-run`: it turns batches into records and knows nothing of files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bioplaus.config import (
    EqpropConfig,
    estimator_settings,
    make_estimator,
    make_field,
    make_optimizer,
)
from bioplaus.costs import AbstractCost, get_cost, one_hot
from bioplaus.datasets import Dataset, batches, load_dataset
from bioplaus.estimators import AbstractEstimator, Estimate
from bioplaus.fields import LeakyField
from bioplaus.gradient_check import check_gradients, record_type, records
from bioplaus.phases import free_phase
from bioplaus.solvers import Status
from bridge.errors import RunFailed
from bridge.optim import Optimizer
from bridge.seeding import generator

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
    field: LeakyField
    cost: AbstractCost
    estimator: AbstractEstimator
    optimizer: Optimizer
    order: torch.Generator
    device: torch.device

    @cached_property
    def epoch_record(self) -> type:
        """The type of an epoch's record; it has one alignment for each pair of weights."""
        pairs = [(f"alignment_{k + 1}", float) for k in range(len(self.field.layers) - 1)]
        return dataclasses.make_dataclass("EpochRecord", _EPOCH_FIELDS + pairs, frozen=True)

    @cached_property
    def check_record(self) -> type:
        """The type of a gradient check's records."""
        return record_type([self.config.estimator.name], ["implicit"], self.field.parameters)


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
    ("images_per_second", float),
    ("seconds", float),
]


def build(config: EqpropConfig, device: torch.device | str = "cpu") -> Run:
    """Make the plain objects that a config describes.

    Raises:
        InputError: the data set cannot be read, or settings do not fit together.
    """
    device, dtype = torch.device(device), getattr(torch, config.dtype)
    data = config.data
    dataset = load_dataset(
        data.dataset,
        Path(data.data_dir) if data.data_dir else None,
        dtype,
        data.train_size,
        data.test_size,
    )
    sizes = [dataset.input_size, *config.network.hidden, dataset.num_classes]
    field, estimator = make_field(config, sizes, device), make_estimator(config)
    estimator.check(field)
    dataset = dataclasses.replace(
        dataset,
        train_images=dataset.train_images.to(device),
        train_labels=dataset.train_labels.to(device),
        test_images=dataset.test_images.to(device),
        test_labels=dataset.test_labels.to(device),
    )
    return Run(
        config=config,
        dataset=dataset,
        field=field,
        cost=get_cost(config.estimator.cost),
        estimator=estimator,
        optimizer=make_optimizer(config, field, len(dataset.train_labels)),
        order=generator(config.seed, "batches"),
        device=device,
    )


def train(
    run: Run,
    *,
    on_step: Callable[[StepRecord], None],
    on_epoch: Callable[[Any], None],
    on_check: Callable[[Any], None] = lambda record: None,
    advance: Callable[[int], None] = lambda images: None,
) -> Summary:
    """Train for the config's epochs.

    Args:
        run: what `build` made; its field learns in place.
        on_step: given the record of every `log_every`-th step.
        on_epoch: given the record of each epoch, of type `run.epoch_record`.
        on_check: given the records of each gradient check, of type `run.check_record`.
        advance: told the number of images after each step.

    Raises:
        RunFailed: the network diverged; the message says cause and remedy.
    """
    config, dataset = run.config, run.dataset
    targets = one_hot(dataset.train_labels, dataset.num_classes, run.field.dtype)
    updates = {name: torch.empty_like(p) for name, p in run.field.parameters.items()}
    began, step, rejected = time.perf_counter(), 0, 0
    record: Any = None
    trained = 0.0
    for epoch in range(1, config.epochs + 1):
        epoch_began, tally = time.perf_counter(), _Tally()
        for rows in batches(len(targets), config.batch_size, run.order):
            rate = run.optimizer.learning_rate
            rows = rows.to(run.device)
            x, y = dataset.train_images[rows], targets[rows]
            estimate = run.estimator(run.field, x, y, run.cost, out=updates)
            run.optimizer.step(estimate.updates)
            step += 1
            values = _measure(run, estimate, y)
            rejected = 0 if values["accepted"] > 0 else rejected + 1
            if rejected >= PATIENCE:
                raise RunFailed(_diagnosis(step, estimate))
            tally.add(values, len(rows))
            every = config.check_gradients_every
            if every and step % every == 0:
                for checked in _check(run, x, y, step):
                    on_check(checked)
            if step % config.log_every == 0:
                on_step(StepRecord(step=step, epoch=epoch, learning_rate=rate, **values))
            advance(len(rows))
        seconds = time.perf_counter() - epoch_began
        trained += seconds
        _require_finite(run.field, step)
        record = run.epoch_record(
            step=step,
            epoch=epoch,
            test_error=test_error(run),
            images_per_second=len(targets) / seconds,
            seconds=time.perf_counter() - began,
            **tally.means(),
            **alignments(run.field),
        )
        on_epoch(record)
    return Summary(
        test_error=record.test_error,
        train_error=record.train_error,
        epochs=config.epochs,
        seconds=time.perf_counter() - began,
        images_per_second=config.epochs * len(targets) / trained,
    )


def _check(run: Run, x: Tensor, y: Tensor, step: int) -> list[Any]:
    """The running estimator against the true gradient, on the first rows of a batch."""
    config, rows = run.config, run.config.check_rows
    report = check_gradients(
        run.field,
        x[:rows],
        y[:rows],
        run.cost,
        [config.estimator.name],
        [config.estimator.beta],
        settings=estimator_settings(config),
        seed=config.seed,
    )
    return records(run.check_record, report, step)


def test_error(run: Run) -> float:
    """Share of test images whose largest output is not their label, in percent."""
    dataset, settling, wrong = run.dataset, run.estimator.settling, 0
    for rows in batches(len(dataset.test_labels), run.config.evaluation_batch):
        rows = rows.to(run.device)
        free = free_phase(run.field, dataset.test_images[rows], settling=settling)
        guess = free.s[:, run.field.output].argmax(1)
        wrong += int((guess != dataset.test_labels[rows]).sum())
    return 100.0 * wrong / len(dataset.test_labels)


def alignments(field: LeakyField) -> dict[str, float]:
    """tr(W_f W_b) / (||W_f|| ||W_b||) of each pair of layers: 1 is transposed, 0 unrelated."""
    result = {}
    for k in range(len(field.layers) - 1):
        forward, back = field.forward_weight(k + 1).T, field.feedback_weight(k)
        product = (forward * back).sum() / (forward.norm() * back.norm())
        result[f"alignment_{k + 1}"] = float(product)
    return result


def _measure(run: Run, estimate: Estimate, y: Tensor) -> dict[str, float]:
    """The numbers of one step, fetched from the device at once."""
    free = estimate.free
    outputs = free.s[:, run.field.output]
    nudged = estimate.nudged or (free,)
    converged = free.converged
    for phase in nudged:
        converged = converged & phase.converged
    names = (
        "cost",
        "train_error",
        "free_residual",
        "nudged_residual",
        "free_steps",
        "nudged_steps",
        "converged",
        "accepted",
    )
    numbers = torch.stack(
        [
            run.cost.value(outputs, y).mean(),
            100.0 * (outputs.argmax(1) != y.argmax(1)).to(outputs.dtype).mean(),
            free.residual.max(),
            torch.stack([phase.residual.max() for phase in nudged]).max(),
            free.n_steps.to(outputs.dtype).mean(),
            torch.stack([p.n_steps.to(outputs.dtype).mean() for p in nudged]).mean(),
            converged.to(outputs.dtype).mean(),
            estimate.accepted.to(outputs.dtype).mean(),
        ]
    )
    return dict(zip(names, numbers.tolist(), strict=True))


class _Tally:
    """Means over an epoch, weighted by the rows of each step."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.rows = 0

    def add(self, values: dict[str, float], rows: int) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + rows * value
        self.rows += rows

    def means(self) -> dict[str, float]:
        return {name: total / self.rows for name, total in self.sums.items()}


def _diagnosis(step: int, estimate: Estimate) -> str:
    worst = estimate.free
    for phase in estimate.nudged:
        if phase.residual.max() > worst.residual.max():
            worst = phase
    status = Status(int(worst.status.max()))
    return (
        f"the network diverged: for {PATIENCE} steps up to step {step} no row settled to within "
        f"the gate (largest residual {float(worst.residual.max()):.2g}); {status.message}"
    )


def _require_finite(field: LeakyField, step: int) -> None:
    for name, parameter in field.parameters.items():
        if not bool(torch.isfinite(parameter).all()):
            raise RunFailed(
                f"the network diverged: {name} is NaN or infinite at step {step}; use a smaller "
                "learning rate (--set optimizer.learning_rate=...)"
            )
