"""Base class of oracles that need only the free phase and the adjoint J^-T c."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.estimators.base import AbstractEstimator, Batch
from bioplaus.fields.base import VectorField
from bioplaus.fields.linearisation import AbstractLinearisation
from bioplaus.phases import Settling
from bioplaus.solvers import Solution, Status


@dataclass(frozen=True)
class AbstractAdjoint(AbstractEstimator):
    """-dJ/dtheta = (dmu/dtheta)^T J_s^-T c at the free fixed point: the true gradient.

    The estimate reports the adjoint as its only nudged phase. Its residual is
    ||J_s^T a - c|| / ||c||. A row has converged if that is within the tolerance of the phases (or
    within `rounding`, if that is larger).

    Source: the implicit function theorem; Almeida 1987, Pineda 1987 (Phys. Rev. Lett. 59).
    """

    is_oracle = True

    @abstractmethod
    def adjoint(self, at: AbstractLinearisation, c: Tensor) -> tuple[Tensor, Tensor]:
        """J_s^-T c [B, n], and the number of steps of each row [B]."""

    def response(self, batch: Batch) -> tuple[list[Solution], Tensor]:
        c = cost_slope(batch.field, batch.free.s, batch.target, batch.cost)
        at = batch.field.linearise(batch.free.s, batch.drive)
        adjoint, steps = self.adjoint(at, c)
        solved = judged(adjoint, adjoint_residual(at, adjoint, c), steps, self.settling)
        return [solved], at.reached(adjoint)


def judged(adjoint: Tensor, residual: Tensor, steps: Tensor, settling: Settling) -> Solution:
    """Wrap an adjoint as a phase, converged where its residual is within the phases' tolerance.

    Args:
        adjoint: J_s^-T c, [B, n].
        residual: ||J_s^T a - c|| / ||c||, [B].
        steps: number of steps taken, [B].
        settling: provides the tolerance; `rounding` replaces it if larger.
    """
    tolerance = max(settling.tolerance, rounding(residual.dtype))
    status = torch.full(residual.shape, Status.MAX_STEPS, dtype=torch.int8, device=residual.device)
    status[residual <= tolerance] = Status.CONVERGED
    unusable = ~(torch.isfinite(residual) & torch.isfinite(adjoint).all(1))
    status[unusable] = Status.NON_FINITE
    residual = torch.where(unusable, torch.inf, residual)
    return Solution(adjoint, residual, status, steps.to(torch.int32))


def rounding(dtype: torch.dtype) -> float:
    """The relative residual of a linear system that rounding error may cause."""
    return 100 * torch.finfo(dtype).eps


def cost_slope(field: VectorField, s: Tensor, target: Tensor, cost: AbstractCost) -> Tensor:
    """c = dC/ds on all units, [B, n]; zero except at the outputs."""
    c = torch.zeros_like(s)
    c[:, field.output] = cost.slope(s[:, field.output], target)
    return c


def adjoint_residual(at: AbstractLinearisation, a: Tensor, c: Tensor) -> Tensor:
    """||J_s^T a - c|| / ||c|| of each row, [B]; not divided where c is 0."""
    return relative(at.vjp(a) - c, c)


def relative(error: Tensor, c: Tensor) -> Tensor:
    """||error|| / ||c|| of each row, [B]; not divided where c is 0."""
    size = torch.linalg.vector_norm(c, dim=1)
    return torch.linalg.vector_norm(error, dim=1) / torch.where(size > 0, size, 1.0)
