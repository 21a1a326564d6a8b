"""The loop without host synchronisation: a mask freezes the rows that have ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bioplaus.solvers.base import AbstractDynamics, AbstractSolver, Solution, Status
from bioplaus.solvers.looking import WINDOW, Look, look_of, stuck
from bioplaus.solvers.relaxation import Euler
from bioplaus.solvers.sweeps import DAMPED, Sweeps


class Rows(NamedTuple):
    """What is known of the rows, all tensors with fixed addresses.

    Attributes:
        end, residual, status, n_steps: the results of the rows that have ended; see `Solution`.
        earlier: residuals at the end of the last window of checks.
        active, failed: which rows go on, and which `loop.solve` would retry.
        step, looks: numbers of steps and checks so far, int32 [].
        waiting: numbers of active and of failed rows, int32 [2].
    """

    end: Tensor
    residual: Tensor
    status: Tensor
    n_steps: Tensor
    earlier: Tensor
    active: Tensor
    failed: Tensor
    step: Tensor
    looks: Tensor
    waiting: Tensor


class Limits(NamedTuple):
    """When rows end.

    Attributes:
        tolerance, max_steps: see `loop.solve`.
        retried: a row that fails after more steps than this is not retried.
        window: number of checks over which a residual must fall.
        last: whether no row is retried.
    """

    tolerance: float
    max_steps: int
    retried: int
    window: int
    last: bool


Judging = Callable[[Tensor, Tensor, Tensor, Tensor, Rows, Limits], None]


def rows_of(start: Tensor) -> Rows:
    """All rows before the first step."""
    size, count = start[:, 0], start.new_zeros(len(start), dtype=torch.int32)
    no, none = torch.zeros_like(count, dtype=torch.bool), count.new_zeros(())
    return Rows(
        start.clone(),
        torch.zeros_like(size),
        count.to(torch.int8),
        count,
        torch.full_like(size, torch.inf),
        ~no,
        no,
        none,
        none.clone(),
        count.new_zeros(2),
    )


class MaskedSearch:
    """The first attempt of `loop.solve`, with its checks evaluated on the device.

    All rows continue to be computed, but the state of a row is stored when it ends. The numbers of
    steps and checks are tensors too, so that a recorded check can be replayed. Every row ends at
    the same step and with the same outcome as in `loop.solve`.
    """

    def __init__(
        self,
        dynamics: AbstractDynamics,
        start: Tensor,
        solver: AbstractSolver,
        *,
        tolerance: float,
        max_steps: int,
        check_every: int = 1,
        judging: Judging | None = None,
    ) -> None:
        """Start at `start`; see `unfit` for the searches that are supported.

        `judging` replaces `judge`, which it computes in another way.
        """
        self.dynamics, self.solver, self.check_every = dynamics, solver, check_every
        last = not (tolerance > 0 and any(d.pace < solver.pace for d in DAMPED))
        retried, window = max_steps - len(dynamics.order), math.ceil(WINDOW / solver.pace)
        self.limits = Limits(tolerance, max_steps, retried, window, last)
        self.s = start.clone()
        self.carry = solver.init(dynamics, self.s)
        self.rows = rows_of(start)
        self._judge = judging or judge

    @property
    def waiting(self) -> Tensor:
        """Number of rows that go on, and number of rows that `loop.solve` would retry, int32 [2].

        `loop.solve` retries rows with smaller steps.
        """
        return self.rows.waiting

    @property
    def failed(self) -> Tensor:
        """Which rows `loop.solve` would retry, bool [B]."""
        return self.rows.failed

    def begin(self) -> None:
        """Take the steps before the first check, and check."""
        most = self.limits.max_steps
        reach = self.solver.reach(self.dynamics) if self.limits.tolerance > 0 else most
        self._advance(min(reach, most))

    def look_again(self) -> None:
        """Take the steps to the next check, and check."""
        self._advance(self.check_every)

    def going(self) -> Tensor:
        """Whether to look again: rows go on, and none has failed, bool []."""
        return (self.waiting[0] > 0) & (self.waiting[1] == 0)

    def solution(self) -> Solution:
        """The solution; rows that still go on have no result yet."""
        return Solution(self.rows.end, self.rows.residual, self.rows.status, self.rows.n_steps)

    def _advance(self, steps: int) -> None:
        for _ in range(steps):
            self.solver.step(self.dynamics, self.s, self.carry)
            self.carry.fresh = False
        self.rows.step.add_(steps)
        force = self.solver.measure(self.dynamics, self.s, self.carry)
        size = torch.linalg.vector_norm(self.s, dim=1)
        self._judge(self.s, force, size, self.dynamics.scale(size), self.rows, self.limits)


def judge(
    s: Tensor, force: Tensor, size: Tensor, scale: Tensor, rows: Rows, limits: Limits
) -> None:
    """Check all rows, and store those that end; elementwise but for the norms of F and the counts.

    Args:
        s, force: states and F(s), [B, n].
        size, scale: ||s||, and what residuals are relative to, [B].
        rows: what is known of the rows; changed in place.
        limits: when rows end.
    """
    rows.looks.add_(1)
    look = look_of(size, scale, force, limits.tolerance)
    going = look.going & (rows.step < limits.max_steps)
    if not limits.last:
        at_window = rows.looks % limits.window == 0
        going = going & ~(at_window & stuck(look.residual, rows.earlier))
        rows.earlier.copy_(torch.where(at_window, look.residual, rows.earlier))
    _keep(s, look, rows.active & ~going, rows, limits)
    rows.active.copy_(rows.active & going)
    rows.waiting.copy_(torch.stack((rows.active.sum(), rows.failed.sum())))


def _keep(s: Tensor, look: Look, ended: Tensor, rows: Rows, limits: Limits) -> None:
    """Store the rows that end at this check."""
    usable = torch.isfinite(look.residual) & torch.isfinite(look.size)
    far = look.residual > limits.tolerance if limits.tolerance > 0 else torch.ones_like(ended)
    status = torch.where(look.size > look.limit, int(Status.DIVERGED), far.to(torch.int8))
    status = torch.where(usable, status, int(Status.NON_FINITE)).to(torch.int8)
    residual = torch.where(usable, look.residual, torch.inf)
    rows.end.copy_(torch.where(ended[:, None], s, rows.end))
    rows.residual.copy_(torch.where(ended, residual, rows.residual))
    rows.status.copy_(torch.where(ended, status, rows.status))
    rows.n_steps.copy_(torch.where(ended, rows.step, rows.n_steps))
    if not limits.last:
        lost = ended & (status != int(Status.CONVERGED)) & (rows.step <= limits.retried)
        rows.failed.copy_(rows.failed | lost)


def unfit(
    dynamics: AbstractDynamics,
    solver: AbstractSolver,
    *,
    tolerance: float,
    max_steps: int,
    check_every: int = 1,
    verify: bool | None = False,
) -> str | None:
    """Why a search cannot be masked; None if it can."""
    if type(solver) not in (Sweeps, Euler):
        return f"steps of {type(solver).__name__} are not alike"
    if verify is not False:
        return "rows are asked whether they rest at an attractor (verify)"
    if tolerance > 0 and (max_steps - solver.reach(dynamics)) % check_every:
        return f"the last look does not come {check_every} steps after the one before"
    return None
