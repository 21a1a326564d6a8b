"""Phases of any vector field: all units move at once by the field's own formula."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from bioplaus.fields.base import VectorField
from bioplaus.nudging.nudge import Nudge
from bioplaus.precision import double
from bioplaus.solvers.base import AbstractDynamics


class Whole(AbstractDynamics):
    """F(s) = mu(x, s) - beta dC/ds; without a nudge, the free field mu(x, s).

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 3.
    """

    groups = ((0,),)
    order = (0,)

    def __init__(self, field: VectorField, drive: Tensor, nudge: Nudge | None = None) -> None:
        """Fix the clamped input, given by its drive, and the nudge."""
        self.field, self.drive, self.nudge = field, drive, nudge

    @property
    def depth(self) -> int:
        return self.field.depth

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        force = self.field.driven(self.drive, s)
        if self.nudge is not None:
            here = self.field.output
            nudged = self.nudge.added_to(force[:, here], s[:, here])
            force = torch.cat((force[:, : here.start], nudged), 1)
            force = self.field.confine_state(s + force) - s
        return out.copy_(force)

    def force_after_settling(self, s: Tensor, out: Tensor) -> Tensor:
        return self.force(s, out)

    def settle(self, s: Tensor, group: tuple[int, ...]) -> None:
        self.shift(s, group, self.force(s, torch.empty_like(s)))

    def shift(self, s: Tensor, group: tuple[int, ...], step: Tensor) -> None:
        s.add_(self.scaled(step))
        self.field.confine_state(s)

    def scaled(self, step: Tensor) -> Tensor:
        """Scale down the outputs' part of a step by the curvature of the cost."""
        if self.nudge is None:
            return step
        start = self.field.output.start
        return torch.cat((step[:, :start], self.nudge.scaled(step[:, start:])), 1)

    def take(self, rows: Tensor) -> Whole:
        drive = self.drive.index_select(0, rows)
        return Whole(self.field, drive, self.nudge and self.nudge.take(rows))

    def precise(self) -> Whole:
        nudge = self.nudge and self.nudge.precise()
        return Whole(self.field.precise(), double(self.drive), nudge)


class WholeDeviations(Whole):
    """F(d) = mu(x, s* + d) - mu(x, s*) - beta dC/ds, d = s - s* the deviation from s*.

    The residual mu(x, s*) of the free phase is subtracted. The deviation is the variable itself,
    never the difference of two nearly equal states.
    """

    def __init__(self, field: VectorField, drive: Tensor, nudge: Nudge, free: Tensor) -> None:
        """Fix the clamped input, the nudge and the free fixed point [B, n]."""
        super().__init__(field, drive, nudge)
        self.origin, self.size = free, torch.linalg.vector_norm(free, dim=1)
        self.rest = field.driven(drive, free)

    def from_rest(self) -> Self:
        """The same dynamics, for a search that starts at d = 0."""
        return self

    def scale(self, size: Tensor) -> Tensor:
        return self.size

    def change(self, d: Tensor) -> Tensor:
        """mu(x, s* + d) - mu(x, s*), plus what an estimator adds to it, [B, n]."""
        return self.field.driven(self.drive, self.origin + d) - self.rest

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        assert self.nudge is not None
        here, force = self.field.output, self.change(s)
        nudged = self.nudge.added_to(force[:, here], self.origin[:, here] + s[:, here])
        torch.cat((force[:, : here.start], nudged), 1, out=out)
        if self.field.box is not None:
            out.copy_(self._within(s + out).sub_(s))
        return out

    def shift(self, s: Tensor, group: tuple[int, ...], step: Tensor) -> None:
        self._within(s.add_(self.scaled(step)))

    def _within(self, d: Tensor) -> Tensor:
        """Clip deviations so that the state stays in the box, in place."""
        if (box := self.field.box) is None:
            return d
        return torch.clamp(d, box[0] - self.origin, box[1] - self.origin, out=d)

    def take(self, rows: Tensor, nudge: Nudge | None = None) -> WholeDeviations:
        new = copy.copy(self)
        new.nudge = nudge or (self.nudge and self.nudge.take(rows))
        new.drive, new.origin, new.size, new.rest = (
            t.index_select(0, rows) for t in (self.drive, self.origin, self.size, self.rest)
        )
        return new

    def precise(self) -> WholeDeviations:
        assert self.nudge is not None
        field, drive, free = self.field.precise(), double(self.drive), double(self.origin)
        return type(self)(field, drive, self.nudge.precise(), free)


class WholeSymmetrised(WholeDeviations):
    """F(d) = mu(s* + d) - mu(s*) - beta dC/ds - (J - J^T) d, J the Jacobian at s*.

    The Jacobian of F at s* is J^T, so that ds_beta/dbeta = J^-T c.

    Source: Scurria, Vanden Abeele, Mognetti, Massar 2026 (arXiv 2602.03670).
    """

    def __init__(self, field: VectorField, drive: Tensor, nudge: Nudge, free: Tensor) -> None:
        """Fix the clamped input, the nudge and the free fixed point [B, n]."""
        super().__init__(field, drive, nudge, free)
        self.at = field.linearise(free, drive)

    def change(self, d: Tensor) -> Tensor:
        return super().change(d) - self.at.jvp(d) + self.at.vjp(d)

    def take(self, rows: Tensor, nudge: Nudge | None = None) -> WholeSymmetrised:
        new = super().take(rows, nudge)
        assert isinstance(new, WholeSymmetrised)
        new.at = self.at.take(rows)
        return new
