"""The records of a run: for each step, for each epoch, and at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True)
class StepRecord:
    """The record of one update: errors in percent, relative residuals, steps per row."""

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
    """The summary of a run: errors in percent."""

    test_error: float
    train_error: float
    epochs: int
    seconds: float
    images_per_second: float


_EPOCH: tuple[str, ...] = (
    "free_residual",
    "nudged_residual",
    "free_steps",
    "nudged_steps",
    "converged",
    "accepted",
    "stability",
    "images_per_second",
    "seconds",
)
_STEP: tuple[str, ...] = (
    "free_residual",
    "nudged_residual",
    "free_steps",
    "nudged_steps",
    "converged",
    "accepted",
    "learning_rate",
)
ERRORS = ("cost", "train_error", "test_error")
"""The measures of supervised learning, errors in percent."""


def epoch_type(more: Iterable[str], measured: Iterable[str] = ERRORS) -> type:
    """Make the type of an epoch's record.

    Args:
        more: measures that only some fields have: an alignment per pair of weights, an energy.
        measured: further measures of an epoch.
    """
    return _record("EpochRecord", (*measured, *_EPOCH, *more))


def step_type(measured: Iterable[str]) -> type:
    """Make the type of the record of an update with these measures."""
    return _record("StepRecord", (*measured, *_STEP))


@cache
def _record(name: str, numbers: tuple[str, ...]) -> type:
    fields: list[Any] = [("step", int), ("epoch", int), *((each, float) for each in numbers)]
    methods = {
        "__doc__": "The means of an update or an epoch, and what was measured at its end.",
        "__reduce__": lambda row: (_again, (name, numbers, dataclasses.astuple(row))),
        "__repr__": _representation,
    }
    return dataclasses.make_dataclass(name, fields, frozen=True, repr=False, namespace=methods)


def _again(name: str, numbers: tuple[str, ...], values: tuple[float, ...]) -> Any:
    return _record(name, numbers)(*values)


def _representation(row: object) -> str:
    values = (f"{name}={value:.4g}" for name, value in vars(row).items())
    return f"{type(row).__name__}({', '.join(values)})"
