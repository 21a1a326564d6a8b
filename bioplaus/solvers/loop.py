"""The one fixed-point loop: tolerance, step limit, and rows that finish one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.solvers.base import AbstractDynamics, AbstractSolver, Solution, Status

DIVERGED_AT = 1e6
"""A state whose root mean square passes this has diverged."""


@torch.no_grad()
def solve(
    dynamics: AbstractDynamics,
    start: Tensor,
    solver: AbstractSolver,
    *,
    tolerance: float,
    max_steps: int,
    check_every: int = 1,
) -> Solution:
    """Find s with ||F(s)|| <= tolerance ||s||, row by row.

    Rows that have converged, diverged or turned non-finite are taken out of the computation and
    left alone. Rows are looked at after `solver.reach` steps (so that a signal has crossed the
    network) and then every `check_every` steps: only there is a GPU synchronised.

    Args:
        dynamics: the field, [B, n].
        start: first state, [B, n]; not changed.
        solver: the kind of step.
        tolerance: relative residual, >= 0; 0 takes exactly `max_steps` steps.
        max_steps: step limit, >= 1.
        check_every: steps between looks at the residual, >= 1.

    Raises:
        InputError: a setting is outside its range.
    """
    _check(tolerance, max_steps, check_every)
    s = start.clone()
    end = _Ending(s)
    carry, rows = solver.init(dynamics, s), None
    until_look, step = solver.reach(dynamics) if tolerance > 0 else max_steps, 0
    while step < max_steps:
        left = max_steps - step
        step += solver.advance(dynamics, s, carry, min(until_look, left), left, tolerance)
        until_look = check_every
        residual, status = _judge(s, solver.measure(dynamics, s, carry), tolerance)
        done = status != Status.MAX_STEPS
        left = 0 if step == max_steps else int((~done).sum())
        if left == 0:
            end.put(rows, s, residual, status, step)
            break
        if left < len(done):
            ended, going = done.nonzero()[:, 0], (~done).nonzero()[:, 0]
            origin = ended if rows is None else rows[ended]
            end.put(origin, s[ended], residual[ended], status[ended], step)
            rows = going if rows is None else rows[going]
            s, dynamics, carry = s[going], dynamics.take(going), carry.take(going)
    return end.solution()


class _Ending:
    """Collects the rows in the order of the batch as they end."""

    def __init__(self, s: Tensor) -> None:
        self.s = s
        batch = s.shape[0]
        self.residual = torch.empty(batch, dtype=s.real.dtype, device=s.device)
        self.status = torch.empty(batch, dtype=torch.int8, device=s.device)
        self.n_steps = torch.empty(batch, dtype=torch.int32, device=s.device)

    def put(
        self, rows: Tensor | None, s: Tensor, residual: Tensor, status: Tensor, step: int
    ) -> None:
        if rows is None:
            self.s, self.residual, self.status = s, residual, status
            self.n_steps.fill_(step)
            return
        self.s[rows], self.residual[rows], self.status[rows] = s, residual, status
        self.n_steps[rows] = step

    def solution(self) -> Solution:
        return Solution(self.s, self.residual, self.status, self.n_steps)


def _judge(s: Tensor, force: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Relative residual and status of each row; MAX_STEPS means 'not there yet'."""
    size = torch.linalg.vector_norm(s, dim=1)
    tiny = torch.finfo(size.dtype).tiny
    residual = torch.linalg.vector_norm(force, dim=1) / size.clamp_min(tiny)
    status = torch.full(residual.shape, Status.MAX_STEPS, dtype=torch.int8, device=s.device)
    if tolerance > 0:
        status[residual <= tolerance] = Status.CONVERGED
    status[size > DIVERGED_AT * s.shape[1] ** 0.5] = Status.DIVERGED
    unusable = ~(torch.isfinite(residual) & torch.isfinite(size))
    residual[unusable], status[unusable] = torch.inf, Status.NON_FINITE
    return residual, status


def _check(tolerance: float, max_steps: int, check_every: int) -> None:
    if not tolerance >= 0:
        raise InputError(f"tolerance={tolerance} must be zero (fixed steps) or positive")
    if max_steps < 1:
        raise InputError(f"max_steps={max_steps} must be at least 1")
    if check_every < 1:
        raise InputError(f"check_every={check_every} must be at least 1")
