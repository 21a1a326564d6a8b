"""The force of a target on the outputs; defines the sign of beta for all estimators and engines."""

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
        beta: the strength, one per row, [B, 1].
    """

    def __init__(self, cost: AbstractCost, target: Tensor, beta: Tensor) -> None:
        """Fix cost, target and strength."""
        self.cost, self.target, self.beta = cost, target, beta
        self._scale: Tensor | None = None

    def added_to(self, current: Tensor, s: Tensor) -> Tensor:
        """current - beta dC/ds at the output state `s` [B, m]; beta > 0 pulls toward the target."""
        return torch.addcmul(current, self.beta, self.cost.slope(s, self.target), value=-1)

    def scaled(self, step: Tensor) -> Tensor:
        """Scale down a step of the outputs by the curvature of the cost."""
        if self._scale is None:
            self._scale = 1.0 / (1.0 + self.beta * self.cost.curvature)
        return step * self._scale

    def take(self, rows: Tensor) -> Nudge:
        """The nudge for a subset of rows."""
        target, beta = self.target.index_select(0, rows), self.beta.index_select(0, rows)
        return Nudge(self.cost, target, beta)

    def precise(self) -> Nudge:
        """The same nudge in double precision."""
        return Nudge(self.cost, double(self.target), double(self.beta))
