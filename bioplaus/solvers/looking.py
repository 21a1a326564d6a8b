"""The check of each row at one step: its residual, and whether it goes on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.solvers.base import AbstractDynamics, Status

DIVERGED_AT = 1e6
"""A state whose root mean square exceeds this has diverged."""

WINDOW = 8
"""Number of checks, one full step apart, over which a row's residual must fall."""

HEADWAY = 0.98
"""A row is stuck unless its residual falls below this multiple within the window."""


@dataclass(frozen=True)
class Look:
    """The check of each row at one step.

    Attributes:
        residual: relative residual, [B].
        going: whether a row has neither reached its tolerance nor failed, [B].
        sound: whether a row is finite and has not diverged, [B].
        size: ||s||, [B].
        limit: the size above which a state has diverged.
        tolerance: the relative residual to reach.
    """

    residual: Tensor
    going: Tensor
    sound: Tensor
    size: Tensor
    limit: float
    tolerance: float

    def status(self) -> Tensor:
        """Codes of `Status`, [B], int8; MAX_STEPS means 'not yet done'. Corrects the residual."""
        far = self.residual > self.tolerance if self.tolerance > 0 else torch.ones_like(self.going)
        status = far.to(torch.int8)  # CONVERGED is 0, MAX_STEPS 1
        if bool(self.sound.all()):
            return status
        status.masked_fill_(self.size > self.limit, Status.DIVERGED)
        unusable = ~(torch.isfinite(self.residual) & torch.isfinite(self.size))
        self.residual.masked_fill_(unusable, torch.inf)
        return status.masked_fill_(unusable, Status.NON_FINITE)


def look_at(dynamics: AbstractDynamics, s: Tensor, force: Tensor, tolerance: float) -> Look:
    """Compute the relative residual of each row, and which rows go on."""
    size = torch.linalg.vector_norm(s, dim=1)
    return look_of(size, dynamics.scale(size), force, tolerance)


def look_of(size: Tensor, scale: Tensor, force: Tensor, tolerance: float) -> Look:
    """Make the look at states of size ||s|| [B], whose residual is relative to `scale` [B]."""
    tiny = torch.finfo(size.dtype).tiny
    residual = torch.linalg.vector_norm(force, dim=1) / scale.clamp_min(tiny)
    limit = DIVERGED_AT * force.shape[1] ** 0.5
    sound = (size <= limit) & (residual < torch.inf)  # both are False for NaN
    going = sound & (residual > tolerance) if tolerance > 0 else sound
    return Look(residual, going, sound, size, limit, tolerance)


def stuck(residual: Tensor, earlier: Tensor) -> Tensor:
    """Whether a row's residual has stopped falling while well above rounding error."""
    return (residual > HEADWAY * earlier) & (residual > 50 * torch.finfo(residual.dtype).eps)
