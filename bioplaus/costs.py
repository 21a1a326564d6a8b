"""Costs C(s) on the output layer: value and slope dC/ds. J is their mean over the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bioplaus.errors import InputError


class AbstractCost(ABC):
    """A cost of the output state `s` [B, m] against targets `y` [B, m] (rows sum to 1)."""

    name: ClassVar[str]
    curvature: ClassVar[float]
    """A typical d2C/ds2 of one unit; steps against the nudge are scaled by it."""
    steepest: ClassVar[float | None] = None
    """The largest eigenvalue of d2C/ds2 anywhere; None takes `curvature` for it."""

    @abstractmethod
    def value(self, s: Tensor, y: Tensor) -> Tensor:
        """C of each row, [B]."""

    @abstractmethod
    def slope(self, s: Tensor, y: Tensor) -> Tensor:
        """dC/ds, [B, m]."""


@dataclass(frozen=True)
class SquaredError(AbstractCost):
    """C(s) = ||s - y||^2 / 2."""

    name = "squared-error"
    curvature = steepest = 1.0

    def value(self, s: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (s - y).square().sum(-1)

    def slope(self, s: Tensor, y: Tensor) -> Tensor:
        return s - y


@dataclass(frozen=True)
class CrossEntropy(AbstractCost):
    """C(s) = -sum_k y_k log softmax(s)_k: the output state is read out by a softmax."""

    name = "cross-entropy"
    curvature = 0.25
    steepest = 0.5  # of diag(p) - p p^T, at p = (1/2, 1/2)

    def value(self, s: Tensor, y: Tensor) -> Tensor:
        return torch.logsumexp(s, -1) * y.sum(-1) - (y * s).sum(-1)

    def slope(self, s: Tensor, y: Tensor) -> Tensor:
        if s.is_complex():  # torch.softmax refuses complex numbers
            weights = torch.exp(s - s.real.amax(-1, keepdim=True))
            return weights / weights.sum(-1, keepdim=True) - y
        return torch.softmax(s, -1) - y


COSTS: dict[str, AbstractCost] = {c.name: c for c in (SquaredError(), CrossEntropy())}


def get_cost(cost: str | AbstractCost) -> AbstractCost:
    """Look up a cost by name; a cost object is handed through.

    Raises:
        InputError: the name is unknown.
    """
    if isinstance(cost, AbstractCost):
        return cost
    if cost not in COSTS:
        raise InputError(f"cost={cost!r} is unknown; use one of {', '.join(COSTS)}")
    return COSTS[cost]


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Targets [B, num_classes] of integer labels [B]."""
    return torch.nn.functional.one_hot(labels, num_classes).to(dtype)
