"""What oracles share that need only the free phase and the adjoint J^-T c."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.estimators.base import AbstractEstimator, Estimate
from bioplaus.fields.base import AbstractField
from bioplaus.phases import free_phase
from bioplaus.solvers import Solution


@dataclass(frozen=True)
class AbstractAdjoint(AbstractEstimator):
    """-dJ/dtheta = (dmu/dtheta)^T J_s^-T c at the free fixed point: the true gradient.

    Source: the implicit function theorem; Almeida 1987, Pineda 1987 (Phys. Rev. Lett. 59).
    """

    @abstractmethod
    def adjoint(self, field: AbstractField, s: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """J_s^-T c [B, n], and the relative residual of each row [B]."""

    @torch.no_grad()
    def __call__(
        self,
        field: AbstractField,
        x: Tensor,
        target: Tensor,
        cost: AbstractCost,
        *,
        free: Solution | None = None,
        out: dict[str, Tensor] | None = None,
    ) -> Estimate:
        if free is None:
            free = free_phase(field, x, settling=self.settling)
        c = cost_slope(field, free.s, target, cost)
        adjoint, residual = self.adjoint(field, free.s, c)
        solved = Solution(adjoint, residual, free.status, free.n_steps)
        delta = on_the_free_units(field, free.s, adjoint)
        return self.apply_rule(field, x, free, [solved], delta, out)


def cost_slope(field: AbstractField, s: Tensor, target: Tensor, cost: AbstractCost) -> Tensor:
    """c = dC/ds on all units, [B, n]: zero but on the outputs."""
    c = torch.zeros_like(s)
    c[:, field.output] = cost.slope(s[:, field.output], target)
    return c


def adjoint_residual(field: AbstractField, s: Tensor, a: Tensor, c: Tensor) -> Tensor:
    """||J_s^T a - c|| / ||c|| of each row, [B]; where c is 0, not divided."""
    size = torch.linalg.vector_norm(c, dim=1)
    error = torch.linalg.vector_norm(field.vjp(s, a) - c, dim=1)
    return error / torch.where(size > 0, size, 1.0)


def on_the_free_units(field: AbstractField, s: Tensor, delta: Tensor) -> Tensor:
    """`delta` without the units on the wall of a box, where dmu/dtheta is zero."""
    return delta * field.slope(s) if field.is_linear() else delta
