"""The true gradient by relaxing the adjoint network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.estimators.adjoint import AbstractAdjoint, adjoint_residual, rounding
from bioplaus.fields.base import AbstractField
from bioplaus.solvers import AbstractDynamics, Euler, solve


class _Adjoint(AbstractDynamics):
    """F(a) = J_s^T a - c, whose zero is the adjoint."""

    groups = ((0,),)
    order = (0,)

    def __init__(self, field: AbstractField, s: Tensor, c: Tensor) -> None:
        self.field, self.s, self.c = field, s, c

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        return torch.sub(self.field.vjp(self.s, s), self.c, out=out)

    def force_after_settling(self, s: Tensor, out: Tensor) -> Tensor:
        return self.force(s, out)

    def settle(self, s: Tensor, group: tuple[int, ...]) -> None:
        self.shift(s, group, self.force(s, torch.empty_like(s)))

    def shift(self, s: Tensor, group: tuple[int, ...], step: Tensor) -> None:
        s.add_(step)

    def take(self, rows: Tensor) -> _Adjoint:
        return _Adjoint(self.field, self.s[rows], self.c[rows])


@dataclass(frozen=True)
class RecurrentBackprop(AbstractAdjoint):
    """da/dt = J_s^T a - c: a second network of leaky integrators computes the adjoint.

    The network settles to a residual over ||a||, which does not show that `a` grows without bound
    at a fixed point that is not stable; what is given back, and what the gate sees, is over ||c||.
    Where ||a|| is much larger than ||c||, the network goes on until that is small too.

    Attributes:
        dt: Euler step in membrane time constants.
        adjoint_tolerance: relative residual ||J^T a - c|| / ||a|| at which the adjoint has settled.
        adjoint_steps: step limit.

    Source: Almeida 1987; Pineda 1987 (Phys. Rev. Lett. 59), equations 11 to 13.
    """

    name = "recurrent-backprop"
    dt: float = 0.5
    adjoint_tolerance: float = 1e-12
    adjoint_steps: int = 5000

    def adjoint(self, field: AbstractField, s: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        floor = 10 * torch.finfo(s.dtype).eps
        goal = max(self.settling.tolerance, rounding(s.dtype))
        a, tolerance = -c, max(self.adjoint_tolerance, floor)
        steps = torch.zeros(len(s), dtype=torch.int32, device=s.device)
        while True:
            left = self.adjoint_steps - int(steps.max())
            end = solve(
                _Adjoint(field, s, c),
                a,
                Euler(self.dt),
                tolerance=tolerance,
                max_steps=left,
                check_every=10,
            )
            a, steps = end.s, steps + end.n_steps
            behind = end.converged & (adjoint_residual(field, s, a, c) > goal)
            if (
                not bool(behind.any())
                or tolerance <= floor
                or int(steps.max()) >= self.adjoint_steps
            ):
                return a, steps
            tolerance = max(tolerance / 100, floor)
