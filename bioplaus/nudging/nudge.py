"""The force of a target on the outputs: THE sign of beta, for every estimator and engine."""

from __future__ import annotations

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.precision import double


class Nudge:
    """The force -beta dC/ds on the output units.

    Attributes:
        cost: C.
        target: y, [B, m].
        beta: the strength, one a row, [B, 1].
    """

    def __init__(self, cost: AbstractCost, target: Tensor, beta: Tensor) -> None:
        """Fix cost, target and strength."""
        self.cost, self.target, self.beta = cost, target, beta
        self._minus_beta = -beta
        self._scale = 1.0 / (1.0 + beta * cost.curvature)

    def added_to(self, current: Tensor, s: Tensor) -> Tensor:
        """current - beta dC/ds at the output state `s` [B, m]: beta > 0 pulls to the target."""
        return torch.addcmul(current, self._minus_beta, self.cost.slope(s, self.target))

    def scaled(self, step: Tensor) -> Tensor:
        """A step of the outputs, shortened by the curvature of the cost."""
        return step * self._scale

    def take(self, rows: Tensor) -> Nudge:
        """The nudge of a subset of rows."""
        return Nudge(self.cost, self.target[rows], self.beta[rows])

    def precise(self) -> Nudge:
        """The same in double precision."""
        return Nudge(self.cost, double(self.target), double(self.beta))
