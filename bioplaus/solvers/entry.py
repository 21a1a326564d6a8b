"""Where phases ask for a fixed point: by the loop, or by what a block of code puts in its place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

from torch import Tensor

from bioplaus.solvers import loop
from bioplaus.solvers.base import AbstractDynamics, AbstractSolver, Solution


class Settler(Protocol):
    """What stands in for `loop.solve`, with its arguments."""

    def __call__(
        self, dynamics: AbstractDynamics, start: Tensor, solver: AbstractSolver, **limits: Any
    ) -> Solution: ...


_settler: ContextVar[Settler | None] = ContextVar("settler", default=None)


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
    """Find s with ||F(s)|| <= tolerance ||s||, row by row; see `loop.solve`."""
    return (_settler.get() or loop.solve)(
        dynamics,
        start,
        solver,
        tolerance=tolerance,
        max_steps=max_steps,
        check_every=check_every,
        verify=verify,
    )


def recording() -> bool:
    """Whether this code must not wait for the device, for what it does is being recorded."""
    return _settler.get() is not None


@contextlib.contextmanager
def settled_by(settler: Settler) -> Iterator[None]:
    """For the length of a block, find fixed points by something else."""
    token = _settler.set(settler)
    try:
        yield
    finally:
        _settler.reset(token)
