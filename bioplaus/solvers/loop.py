"""The fixed-point loop: tolerance, step limit, and rows that finish one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.solvers.base import AbstractDynamics, AbstractSolver, Solution, Status
from bioplaus.solvers.looking import WINDOW, look_at, stuck
from bioplaus.solvers.stability import DENSE_UP_TO, abscissa
from bioplaus.solvers.sweeps import DAMPED


@torch.no_grad()
def solve(
    dynamics: AbstractDynamics,
    start: Tensor,
    solver: AbstractSolver,
    *,
    tolerance: float,
    max_steps: int,
    check_every: int = 1,
    verify: bool | None = False,
) -> Solution:
    """Find s with ||F(s)|| <= tolerance ||s||, row by row.

    Rows that have converged, diverged or become non-finite are frozen, and removed from the
    computation once that pays off. Rows are checked after `solver.reach` steps (so that a signal
    has crossed the network) and then every `check_every` steps. A GPU is synchronised only at the
    checks.

    Rows that make no progress, diverge, or rest at a point that is not an attractor start again
    with the smaller steps of `DAMPED` in turn, within the same step limit. Thus every solver can
    settle what small Euler steps settle, and `n_steps` shows the cost.

    Args:
        dynamics: the field, [B, n].
        start: initial state, [B, n]; not changed.
        solver: the kind of step.
        tolerance: relative residual, >= 0; 0 takes exactly `max_steps` steps.
        max_steps: largest number of steps of a row, >= 1.
        check_every: steps between checks of the residual, >= 1.
        verify: whether to check that converged rows rest at an attractor; None checks only where
            that is cheap, up to DENSE_UP_TO units.

    Raises:
        InputError: a setting is outside its range.
    """
    limits = _Limits(tolerance, max_steps, check_every)
    attempts = [solver]
    if solver.damped and tolerance > 0:
        attempts += [smaller for smaller in DAMPED if smaller.pace < solver.pace]
    s, rows = start.clone(), None
    end = _Ending(s, start.shape[1] <= DENSE_UP_TO if verify is None else verify)
    for kind in attempts:
        some = dynamics if rows is None else dynamics.take(rows)
        _search(some, s, kind, limits, end, rows, last=kind is attempts[-1])
        end.verify(dynamics)
        if kind is attempts[-1]:
            break
        rows = dynamics.arranged(end.to_try_again(max_steps - len(dynamics.order)))
        if len(rows) == 0:
            break
        end.again = True
        s = start[rows]
    return end.solution()


@dataclass(frozen=True)
class _Limits:
    tolerance: float
    max_steps: int
    check_every: int

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise InputError(f"tolerance={self.tolerance} must be zero (fixed steps) or positive")
        if self.max_steps < 1:
            raise InputError(f"max_steps={self.max_steps} must be at least 1")
        if self.check_every < 1:
            raise InputError(f"check_every={self.check_every} must be at least 1")


def _search(
    dynamics: AbstractDynamics,
    s: Tensor,
    solver: AbstractSolver,
    limits: _Limits,
    end: _Ending,
    rows: Tensor | None,
    *,
    last: bool,
) -> None:
    """Make one attempt on `rows` of the batch (None: all), starting at `s`; results go to `end`."""
    used = None if rows is None else end.n_steps[rows]
    most = limits.max_steps if used is None else limits.max_steps - int(used.min())
    carry, window = solver.init(dynamics, s), math.ceil(WINDOW / solver.pace)
    until_look, step = solver.reach(dynamics) if limits.tolerance > 0 else most, 0
    looks, earlier, alive = 0, None, None
    while step < most:
        left = most - step
        step += solver.advance(dynamics, s, carry, min(until_look, left), left, limits.tolerance)
        until_look, looks = limits.check_every, looks + 1
        look = look_at(dynamics, s, solver.measure(dynamics, s, carry), limits.tolerance)
        residual, going = look.residual, look.going if alive is None else look.going & alive
        if used is not None:
            going = going & (used + step < limits.max_steps)
        if not last and looks % window == 0:
            if earlier is not None:
                going = going & ~stuck(residual, earlier)
            earlier = residual
        left = 0 if step == most else int(going.sum())
        if left and left == len(going):
            continue
        if left == 0 and alive is None:
            end.put(rows, s, residual, look.status(), step, carry.currents)
            break
        ending = ~going if left else torch.ones_like(going)
        ended = (ending if alive is None else ending & alive).nonzero()[:, 0]
        if len(ended):
            end.put_some(ended, rows, s, residual, look.status(), step, carry.currents)
        if left == 0:
            break
        if not dynamics.worth_taking(left, len(going)):
            if end.s is s:  # finished rows must not move with the rest
                end.s = s.clone()
            alive = going
            continue
        still, alive = dynamics.arranged(going.nonzero()[:, 0]), None
        rows = still if rows is None else rows[still]
        s, dynamics, carry = s.index_select(0, still), dynamics.take(still), carry.take(still)
        used = None if used is None else used[still]
        earlier = None if earlier is None else earlier[still]


class _Ending:
    """Collects rows as they end, in batch order, and keeps the best of several attempts."""

    def __init__(self, s: Tensor, verify: bool) -> None:
        self.s, self.again, self.empty = s, False, True
        self.n_steps = torch.zeros(s.shape[0], dtype=torch.int32, device=s.device)
        self.residual = self.status = self.n_steps
        self.currents: Tensor | None = None
        self.abscissa: Tensor | None = None
        if verify:
            self.abscissa = torch.full(s.shape[:1], torch.nan, dtype=torch.float64, device=s.device)

    def _make_room(self) -> None:
        """Allocate the results, before the first rows end without the others."""
        batch, device = self.s.shape[0], self.s.device
        self.residual = torch.empty(batch, dtype=self.s.real.dtype, device=device)
        self.status = torch.full((batch,), Status.NON_FINITE, dtype=torch.int8, device=device)
        self.currents = torch.empty_like(self.s)

    def put(
        self,
        rows: Tensor | None,
        s: Tensor,
        residual: Tensor,
        status: Tensor,
        step: int,
        currents: Tensor | None = None,
    ) -> None:
        first, self.empty = self.empty, False
        if rows is None:
            self.s, self.residual, self.status = s, residual, status
            self.currents = currents
            self.n_steps.fill_(step)
            return
        if first:
            self._make_room()
        self.n_steps[rows] += step
        if self.again:
            # keep the earlier result if the new attempt neither converges nor lowers the residual
            kept = (self.status[rows] < Status.UNSTABLE) & (status != Status.CONVERGED)
            kept &= residual >= self.residual[rows]
            if bool(kept.any()):
                rows, s, residual, status = (part[~kept] for part in (rows, s, residual, status))
                currents = None if currents is None else currents[~kept]
        self._put_currents(rows, currents)
        self.s[rows], self.residual[rows], self.status[rows] = s, residual, status
        if self.abscissa is not None:
            self.abscissa[rows] = torch.nan

    def put_some(
        self,
        which: Tensor,
        rows: Tensor | None,
        s: Tensor,
        residual: Tensor,
        status: Tensor,
        step: int,
        currents: Tensor | None,
    ) -> None:
        """`put` the rows at the indices `which` of those that are left."""
        s, residual, status = (part.index_select(0, which) for part in (s, residual, status))
        currents = None if currents is None else currents.index_select(0, which)
        self.put(which if rows is None else rows[which], s, residual, status, step, currents)

    def _put_currents(self, rows: Tensor, currents: Tensor | None) -> None:
        """Store the currents, unless those of any row are missing."""
        if currents is None or self.currents is None:
            self.currents = None
        else:
            self.currents[rows] = currents

    def verify(self, dynamics: AbstractDynamics) -> None:
        """Check whether the rows that have just converged rest at an attractor."""
        if self.abscissa is None:
            return
        fresh = (self.status == Status.CONVERGED) & self.abscissa.isnan()
        rows = fresh.nonzero()[:, 0]
        if len(rows):
            self.abscissa[rows] = abscissa(dynamics.take(rows), self.s[rows])
            self.status[rows[self.abscissa[rows] >= 0]] = Status.UNSTABLE

    def to_try_again(self, most: int) -> Tensor:
        """Indices of the unconverged rows that have taken at most `most` steps."""
        failed = (self.status != Status.CONVERGED) & (self.n_steps <= most)
        return failed.nonzero()[:, 0]

    def solution(self) -> Solution:
        return Solution(
            self.s,
            self.residual,
            self.status,
            self.n_steps,
            self.abscissa,
            currents=self.currents,
        )
