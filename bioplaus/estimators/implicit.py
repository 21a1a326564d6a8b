"""The true gradient by an adjoint solve: dense for small states, GMRES for large ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.estimators.adjoint import AbstractAdjoint, rounding
from bioplaus.fields.coupling import Coupling
from bioplaus.fields.linearisation import AbstractLinearisation
from bioplaus.jacobian import dense_jacobian
from bioplaus.linear import gmres, solve_ex


@dataclass(frozen=True)
class Implicit(AbstractAdjoint):
    """Solve J_s^T a = c for the adjoint a.

    Attributes:
        dense_up_to: largest number of units for which the adjoint equation is solved densely.
        adjoint_tolerance: relative residual of GMRES; at most a tenth of the tolerance of the
            phases.
        max_iterations: largest number of products in GMRES.
    """

    name = "implicit"
    rank = 0
    dense_up_to: int = 300
    adjoint_tolerance: float = 1e-12
    max_iterations: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adjoint_tolerance <= 0:
            raise InputError(f"adjoint_tolerance={self.adjoint_tolerance} must be > 0")
        if self.max_iterations < 1:
            raise InputError(f"max_iterations={self.max_iterations} must be at least 1")

    def idle(self, coupling: Coupling) -> Mapping[str, str]:
        iterative = ("adjoint_tolerance", "max_iterations")
        if coupling.alone is not None:
            return dict.fromkeys(("dense_up_to", *iterative), coupling.alone)
        if coupling.n is None or coupling.n > self.dense_up_to:
            return {}
        why = (
            f"with {coupling.n} units, for which the adjoint equation is solved densely; it is "
            f"read with dense_up_to={coupling.n - 1} or less"
        )
        return dict.fromkeys(iterative, why)

    def adjoint(self, at: AbstractLinearisation, c: Tensor) -> tuple[Tensor, Tensor]:
        if at.n > self.dense_up_to:
            products = 0

            def transposed(v: Tensor) -> Tensor:
                nonlocal products
                products += 1
                return at.vjp(v)

            a, _ = gmres(
                transposed,
                c,
                tolerance=self._goal(c.dtype),
                max_iterations=self.max_iterations,
            )
            return a, torch.full((len(c),), products, device=c.device)
        matrix = dense_jacobian(at).mT
        # a singular matrix gives non-finite values, and a residual that shows it
        a = solve_ex(matrix, c[..., None])[0][..., 0]
        return a, torch.zeros(len(c), device=c.device)

    def _goal(self, dtype: torch.dtype) -> float:
        return max(min(self.adjoint_tolerance, self.settling.tolerance / 10), rounding(dtype) / 25)
