"""The force of a target on the outputs; defines the sign of beta for all estimators and engines."""

from __future__ import annotations

from collections.abc import Callable

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
        self._slope: Callable[[Tensor], Tensor] | None = None
        self._scale: Tensor | None = None

    @property
    def slope(self) -> Callable[[Tensor], Tensor]:
        """s -> dC/ds, [B, m]."""
        if self._slope is None:
            self._slope = self.cost.slope_at(self.target)
        return self._slope

    def added_to(self, current: Tensor, s: Tensor) -> Tensor:
        """current - beta dC/ds at the output state `s` [B, m]; beta > 0 pulls toward the target."""
        return pulled(current, s, self.beta, self.slope)

    def scaled(self, step: Tensor) -> Tensor:
        """Scale down a step of the outputs by the curvature of the cost."""
        return step * self.scale

    @property
    def scale(self) -> Tensor:
        """The factor of a step of the outputs, 1 / (1 + beta C''), [B, 1]."""
        if self._scale is None:
            self._scale = 1.0 / (1.0 + self.beta * self.cost.curvature)
        return self._scale

    def take(self, rows: Tensor) -> Nudge:
        """The nudge for a subset of rows."""
        target, beta = self.target.index_select(0, rows), self.beta.index_select(0, rows)
        return Nudge(self.cost, target, beta)

    def precise(self) -> Nudge:
        """The same nudge in double precision."""
        return Nudge(self.cost, double(self.target), double(self.beta))


def pulled(
    current: Tensor,
    s: Tensor,
    beta: Tensor,
    slope: Callable[[Tensor], Tensor],
    out: Tensor | None = None,
) -> Tensor:
    """current - beta dC/ds, [B, m], at the output state `s`; see `Nudge`."""
    return torch.addcmul(current, beta, slope(s), value=-1, out=out)
