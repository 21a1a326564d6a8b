"""What a run tells of each step, of each epoch and at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any


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


def epoch_type(more: Iterable[str]) -> type:
    """The type of an epoch's record.

    Args:
        more: what some fields have beside: an alignment for each pair of weights, an energy.
    """
    return _epoch_type(tuple(more))


@cache
def _epoch_type(more: tuple[str, ...]) -> type:
    fields = _EPOCH_FIELDS + [(name, float) for name in more]
    methods = {
        "__doc__": "The means of an epoch, and what was measured at its end. Errors in percent.",
        "__reduce__": lambda row: (_epoch_again, (more, dataclasses.astuple(row))),
        "__repr__": _said,
    }
    return dataclasses.make_dataclass(
        "EpochRecord", fields, frozen=True, repr=False, namespace=methods
    )


def _epoch_again(more: tuple[str, ...], values: tuple[float, ...]) -> Any:
    return _epoch_type(more)(*values)


def _said(row: Any) -> str:
    told = (f"{name}={value:.4g}" for name, value in vars(row).items())
    return f"EpochRecord({', '.join(told)})"
