"""The loop without host synchronisation: a mask freezes the rows that have ended."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bioplaus.solvers.base import AbstractDynamics, AbstractSolver, Solution, Status
from bioplaus.solvers.looking import WINDOW, Look, look_at, stuck
from bioplaus.solvers.relaxation import Euler
from bioplaus.solvers.sweeps import DAMPED, Sweeps


class MaskedSearch:
    """The first attempt of `loop.solve`, with its checks evaluated on the device.

    All rows continue to be computed, but the state of a row is stored when it ends. The numbers of
    steps and checks are tensors too, so that a recorded check can be replayed. Every row ends at
    the same step and with the same outcome as in `loop.solve`.

    Attributes:
        waiting: number of rows that go on, and number of rows that `loop.solve` would retry with
            smaller steps, int32 [2].
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
    ) -> None:
        """Start at `start`; see `unfit` for the searches that are supported."""
        self.dynamics, self.solver, self.tolerance = dynamics, solver, tolerance
        self.max_steps, self.check_every = max_steps, check_every
        self.last = not (tolerance > 0 and any(d.pace < solver.pace for d in DAMPED))
        self.window = math.ceil(WINDOW / solver.pace)
        batch, device = len(start), start.device
        self.s = start.clone()
        self.carry = solver.init(dynamics, self.s)
        self.end = start.clone()
        self.residual = torch.zeros(batch, dtype=start.dtype, device=device)
        self.earlier = torch.full_like(self.residual, torch.inf)
        self.status = torch.zeros(batch, dtype=torch.int8, device=device)
        self.n_steps = torch.zeros(batch, dtype=torch.int32, device=device)
        self.active = torch.ones(batch, dtype=torch.bool, device=device)
        self.failed = torch.zeros(batch, dtype=torch.bool, device=device)
        self.step = torch.zeros((), dtype=torch.int32, device=device)
        self.looks = torch.zeros((), dtype=torch.int32, device=device)
        self.waiting = torch.zeros(2, dtype=torch.int32, device=device)

    def begin(self) -> None:
        """Take the steps before the first check, and check."""
        reach = self.solver.reach(self.dynamics) if self.tolerance > 0 else self.max_steps
        self._advance(min(reach, self.max_steps))

    def look_again(self) -> None:
        """Take the steps to the next check, and check."""
        self._advance(self.check_every)

    def going(self) -> Tensor:
        """Whether to look again: rows go on, and none has failed, bool []."""
        return (self.waiting[0] > 0) & (self.waiting[1] == 0)

    def solution(self) -> Solution:
        """The solution; rows that still go on have no result yet."""
        return Solution(self.end, self.residual, self.status, self.n_steps)

    def _advance(self, steps: int) -> None:
        for _ in range(steps):
            self.solver.step(self.dynamics, self.s, self.carry)
            self.carry.fresh = False
        self.step.add_(steps)
        self.looks.add_(1)
        force = self.solver.measure(self.dynamics, self.s, self.carry)
        look = look_at(self.dynamics, self.s, force, self.tolerance)
        going = look.going & (self.step < self.max_steps)
        if not self.last:
            at_window = self.looks % self.window == 0
            going = going & ~(at_window & stuck(look.residual, self.earlier))
            self.earlier.copy_(torch.where(at_window, look.residual, self.earlier))
        self._keep(look, self.active & ~going)
        self.active &= going
        self.waiting[0] = self.active.sum()
        self.waiting[1] = self.failed.sum()

    def _keep(self, look: Look, ended: Tensor) -> None:
        """Store the rows that end at this check."""
        usable = torch.isfinite(look.residual) & torch.isfinite(look.size)
        far = look.residual > self.tolerance if self.tolerance > 0 else torch.ones_like(ended)
        status = torch.where(look.size > look.limit, int(Status.DIVERGED), far.to(torch.int8))
        status = torch.where(usable, status, int(Status.NON_FINITE)).to(torch.int8)
        residual = torch.where(usable, look.residual, torch.inf)
        self.end.copy_(torch.where(ended[:, None], self.s, self.end))
        self.residual.copy_(torch.where(ended, residual, self.residual))
        self.status.copy_(torch.where(ended, status, self.status))
        self.n_steps.copy_(torch.where(ended, self.step, self.n_steps))
        if not self.last:
            most = self.max_steps - len(self.dynamics.order)
            self.failed |= ended & (status != Status.CONVERGED) & (self.step <= most)


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
