"""The entry point for fixed points: `loop.solve`, or its replacement within a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

from torch import Tensor

from bioplaus.solvers import loop
from bioplaus.solvers.base import AbstractDynamics, AbstractSolver, Solution


class Settler(Protocol):
    """A replacement for `loop.solve`, with the same arguments."""

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
    """Whether the work is being recorded, so that code must not wait for the device."""
    return _settler.get() is not None


@contextlib.contextmanager
def settled_by(settler: Settler) -> Iterator[None]:
    """Find fixed points with another settler within a block."""
    token = _settler.set(settler)
    try:
        yield
    finally:
        _settler.reset(token)
