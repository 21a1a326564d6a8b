"""The nudged field mu(x, s) - beta dC/ds: THE sign of beta, for every estimator and engine."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.fields.base import AbstractField
from bioplaus.solvers.base import AbstractDynamics


@dataclass(frozen=True)
class Nudge:
    """The force -beta dC/ds on the output units.

    Attributes:
        cost: C.
        target: y, [B, m].
        beta: the strength, one a row, [B, 1].
    """

    cost: AbstractCost
    target: Tensor
    beta: Tensor

    def force(self, s: Tensor) -> Tensor:
        """-beta dC/ds at the output state `s` [B, m]: beta > 0 pulls `s` toward the target."""
        return self.cost.slope(s, self.target).mul_(-self.beta)

    def take(self, rows: Tensor) -> Nudge:
        """The nudge of a subset of rows."""
        return Nudge(self.cost, self.target[rows], self.beta[rows])


class Nudged(AbstractDynamics):
    """F(s) = mu(x, s) - beta dC/ds; without a nudge, the free field mu(x, s).

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 3.
    """

    def __init__(self, field: AbstractField, drive: Tensor, nudge: Nudge | None = None) -> None:
        """Fix the clamped input, by its drive [B, ...], and the nudge."""
        self.field, self.drive, self.nudge = field, drive, nudge
        self.depth = len(field.layers)
        self.last = self.depth - 1
        # a nudge enters at the output: settle the output's group first
        top_first = nudge is not None and self.last not in field.groups[0]
        self.groups = field.groups[::-1] if top_first else field.groups
        self._activities: Tensor | None = None
        self._output_current: Tensor | None = None

    def current(self, r: Tensor, s: Tensor, layer: int, out: Tensor) -> Tensor:
        """What drives one layer besides its leak and the nudge, written to `out`."""
        return self.field.current(r, self.drive, layer, out)

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        r = self._activity(s, range(self.depth))
        for k in range(self.depth):
            self._layer_force(self.current(r, s, k, out[:, self.field.layers[k]]), s, k)
        return out

    def force_after_settling(self, s: Tensor, out: Tensor) -> Tensor:
        if len(self.groups) == 1:
            return self.force(s, out)
        settled = self.groups[-1]
        r = self._activity(s, settled)
        for k in range(self.depth):
            there = out[:, self.field.layers[k]]
            if k not in settled:
                self._layer_force(self.current(r, s, k, there), s, k)
            elif k == self.last and self._output_current is not None:
                self._layer_force(there.copy_(self._output_current), s, k)
            else:
                there.zero_()
        return out

    def settle(self, s: Tensor, group: tuple[int, ...], force: Tensor | None = None) -> None:
        if force is not None:
            for k in group:
                self._step(s[:, self.field.layers[k]], force[:, self.field.layers[k]], k)
            return
        r = self._activity(s, [k for k in range(self.depth) if k not in group])
        for k in group:
            own = s[:, self.field.layers[k]]
            if k == self.last and self.nudge is not None:
                self._settle_output(r, s, own, self.nudge)
            else:
                self.field.confine(self.current(r, s, k, own), k)

    def take(self, rows: Tensor) -> Nudged:
        new = copy.copy(self)
        new.drive = self.drive[rows]
        new.nudge = self.nudge and self.nudge.take(rows)
        new._activities = None
        if self._output_current is not None:
            new._output_current = self._output_current[rows]
        return new

    def _activity(self, s: Tensor, layers: Iterable[int]) -> Tensor:
        """rho(s), up to date in the given layers."""
        if self.field.is_linear():
            return s
        if self._activities is None:
            self._activities = torch.empty_like(s)
        for k in layers:
            here = self.field.layers[k]
            self.field.activity(s[:, here], k, self._activities[:, here])
        return self._activities

    def _layer_force(self, current: Tensor, s: Tensor, k: int) -> Tensor:
        """Turn a layer's current into its force, in place."""
        own = s[:, self.field.layers[k]]
        if k == self.last and self.nudge is not None:
            current.add_(self.nudge.force(own))
        return self.field.confine(current, k).sub_(own)

    def _settle_output(self, r: Tensor, s: Tensor, own: Tensor, nudge: Nudge) -> None:
        """Solve s = a - beta dC/ds at a fixed current a by steps scaled by the curvature of C.

        One step is exact for the squared error.
        """
        if self._output_current is None:
            self._output_current = torch.empty_like(own)
        a = self.current(r, s, self.last, self._output_current)
        for _ in range(1 if nudge.cost.quadratic else 3):
            self._step(own, nudge.force(own).add_(a).sub_(own), self.last)

    def _step(self, own: Tensor, force: Tensor, k: int) -> None:
        if k == self.last and self.nudge is not None:
            force = force / (1.0 + self.nudge.beta * self.nudge.cost.curvature)
        self.field.confine(own.add_(force), k)
