"""Euler relaxation: the leaky integrators' own time course."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.solvers.base import AbstractDynamics, AbstractSolver, Carry


@dataclass(frozen=True)
class Euler(AbstractSolver):
    """s <- s + dt F(s).

    Attributes:
        dt: step size, in membrane time constants, in (0, 1].
    """

    dt: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.dt <= 1.0:
            raise InputError(f"dt={self.dt} must lie in (0, 1] membrane time constants")

    @property
    def pace(self) -> float:
        return self.dt

    def reach(self, dynamics: AbstractDynamics) -> int:
        return dynamics.depth

    def step(self, dynamics: AbstractDynamics, s: Tensor, carry: Carry) -> None:
        s.add_(self.measure(dynamics, s, carry), alpha=self.dt)
