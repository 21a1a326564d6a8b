"""The true gradient by an adjoint solve: dense for small states, GMRES for any."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.estimators.adjoint import AbstractAdjoint, adjoint_residual
from bioplaus.fields.base import AbstractField
from bioplaus.jacobian import dense_jacobian
from bioplaus.linear import gmres, solve


@dataclass(frozen=True)
class Implicit(AbstractAdjoint):
    """Solve J_s^T a = c for the adjoint a.

    Attributes:
        dense_up_to: states of at most this size are solved densely.
        adjoint_tolerance: relative residual of GMRES.
        max_iterations: products of GMRES at most.
    """

    name = "implicit"
    dense_up_to: int = 300
    adjoint_tolerance: float = 1e-12
    max_iterations: int = 300

    def adjoint(self, field: AbstractField, s: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        if field.n > self.dense_up_to:
            floor = 100 * torch.finfo(s.dtype).eps
            tolerance = max(self.adjoint_tolerance, floor)
            return gmres(
                lambda v: field.vjp(s, v),
                c,
                tolerance=tolerance,
                max_iterations=self.max_iterations,
            )
        matrix = dense_jacobian(field, s).mT
        a = solve(matrix, c[..., None])[..., 0]
        return a, adjoint_residual(field, s, a, c)
