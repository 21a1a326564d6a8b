"""The true gradient by relaxing the adjoint network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.estimators.adjoint import AbstractAdjoint, adjoint_residual, rounding
from bioplaus.fields.coupling import Coupling
from bioplaus.fields.linearisation import AbstractLinearisation
from bioplaus.solvers import AbstractDynamics, Euler, solve


class _Adjoint(AbstractDynamics):
    """F(a) = J_s^T a - c, whose zero is the adjoint."""

    groups = ((0,),)
    order = (0,)

    def __init__(self, at: AbstractLinearisation, c: Tensor) -> None:
        self.at, self.c = at, c

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        return torch.sub(self.at.vjp(s), self.c, out=out)

    def force_after_settling(self, s: Tensor, out: Tensor) -> Tensor:
        return self.force(s, out)

    def settle(self, s: Tensor, group: tuple[int, ...]) -> None:
        self.shift(s, group, self.force(s, torch.empty_like(s)))

    def shift(self, s: Tensor, group: tuple[int, ...], step: Tensor) -> None:
        s.add_(step)

    def take(self, rows: Tensor) -> _Adjoint:
        return _Adjoint(self.at.take(rows), self.c[rows])

    def precise(self) -> _Adjoint:
        return self  # unchanged: products with J^T have the precision of the stored slopes


@dataclass(frozen=True)
class RecurrentBackprop(AbstractAdjoint):
    """da/dt = J_s^T a - c: a second network of leaky integrators computes the adjoint.

    The network settles to a residual relative to ||a||, which hides that `a` grows without bound at
    an unstable fixed point. The residual that is returned, and that the gate uses, is therefore
    relative to ||c||. If ||a|| is much larger than ||c||, the network continues until that is
    small too.

    Attributes:
        dt: size of an Euler step, in membrane time constants.
        adjoint_tolerance: relative residual ||J^T a - c|| / ||a|| at which the adjoint has settled.
        adjoint_steps: largest number of steps of the adjoint.

    Source: Almeida 1987; Pineda 1987 (Phys. Rev. Lett. 59), equations 11 to 13.
    """

    name = "recurrent-backprop"
    rank = 1
    dt: float = 0.5
    adjoint_tolerance: float = 1e-12
    adjoint_steps: int = 5000

    def idle(self, coupling: Coupling) -> Mapping[str, str]:
        if coupling.alone is None:
            return {}
        # J = -1: the adjoint starts at its fixed point
        return dict.fromkeys(("dt", "adjoint_tolerance", "adjoint_steps"), coupling.alone)

    def adjoint(self, at: AbstractLinearisation, c: Tensor) -> tuple[Tensor, Tensor]:
        floor = 10 * torch.finfo(c.dtype).eps
        goal = max(self.settling.tolerance, rounding(c.dtype))
        a, tolerance = -c, max(self.adjoint_tolerance, floor)
        steps = torch.zeros(len(c), dtype=torch.int32, device=c.device)
        while True:
            left = self.adjoint_steps - int(steps.max())
            end = solve(
                _Adjoint(at, c),
                a,
                Euler(self.dt),
                tolerance=tolerance,
                max_steps=left,
                check_every=10,
            )
            a, steps = end.s, steps + end.n_steps
            behind = end.converged & (adjoint_residual(at, a, c) > goal)
            if (
                not bool(behind.any())
                or tolerance <= floor
                or int(steps.max()) >= self.adjoint_steps
            ):
                return a, steps
            tolerance = max(tolerance / 100, floor)
