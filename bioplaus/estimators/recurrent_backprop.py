"""The true gradient by relaxing the adjoint network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.estimators.adjoint import AbstractAdjoint, adjoint_residual
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

    Attributes:
        dt: Euler step in membrane time constants.
        adjoint_tolerance: relative residual ||J^T a - c|| / ||a|| at which the adjoint has settled.
        adjoint_steps: step limit.

    The residual given back is over ||c||. At a fixed point that is not stable `a` grows without
    bound, which a residual over ||a|| does not show, and the gate must see.

    Source: Almeida 1987; Pineda 1987 (Phys. Rev. Lett. 59), equations 11 to 13.
    """

    name = "recurrent-backprop"
    dt: float = 0.5
    adjoint_tolerance: float = 1e-12
    adjoint_steps: int = 5000

    def adjoint(self, field: AbstractField, s: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        floor = 10 * torch.finfo(s.dtype).eps
        end = solve(
            _Adjoint(field, s, c),
            -c,
            Euler(self.dt),
            tolerance=max(self.adjoint_tolerance, floor),
            max_steps=self.adjoint_steps,
            check_every=10,
        )
        return end.s, adjoint_residual(field, s, end.s, c)
