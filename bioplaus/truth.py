"""The oracles' gradients, in float64, and how far they can be trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.estimators import Estimate, EstimatorLike, make_estimator
from bioplaus.fields.base import VectorField
from bioplaus.gradient_row import Layout
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Solution

EXACT_TOLERANCE = 1e-10
"""Tolerance of the oracles' phases if the field's own dtype is not float64."""


@dataclass(frozen=True)
class Truth:
    """The result of one oracle.

    Attributes:
        name: name of the oracle.
        gradient: -dJ/dtheta as one vector, see `Layout`.
        converged: share of rows that converged in every phase, including the adjoint.
        residual: largest residual of any phase.
        differences: for each row of the layout, the largest distance from another converged
            oracle over the norm of this one; None if there is no other.
    """

    name: str
    gradient: Tensor
    converged: float
    residual: float
    differences: dict[str, float | None]


@dataclass(frozen=True)
class Exact:
    """A problem in float64, and the free phase that the oracles use."""

    field: VectorField
    x: Tensor
    target: Tensor
    free: Solution
    settling: Settling

    @classmethod
    def of(
        cls,
        field: VectorField,
        x: Tensor,
        target: Tensor,
        free: Solution,
        settling: Settling,
        own: Settling | None,
    ) -> Exact:
        """Convert a problem to float64.

        Args:
            field, x, target: in any dtype.
            free: the free phase of the estimators.
            settling: how the estimators' phases settle.
            own: how the oracles' phases settle, if differently.
        """
        if field.dtype == torch.float64 and own is None:
            return cls(field, x, target, free, settling)
        start = None if own else free.s.double()
        chosen = own or settling
        if field.dtype != torch.float64:
            # the point is that of the estimators, whose stability has been checked already
            tolerance = min(chosen.tolerance, EXACT_TOLERANCE)
            verify = chosen.verify if own else False
            chosen = dataclasses.replace(chosen, tolerance=tolerance, verify=verify)
            field = field.with_parameters({k: p.double() for k, p in field.parameters.items()})
            x, target = x.double(), target.double()
        free = free_phase(field, x, settling=chosen, start=start)
        return cls(field, x, target, free, chosen)

    def truths(
        self, oracles: Sequence[EstimatorLike], cost: AbstractCost, layout: Layout
    ) -> list[Truth]:
        """Run each oracle, and compute its distance from the other converged ones."""
        found = []
        for choice in oracles:
            oracle = make_estimator(choice, "oracle", settling=self.settling)
            estimate = oracle(self.field, self.x, self.target, cost, free=self.free)
            share, residual = convergence(estimate)
            found.append(Truth(oracle.name, layout.flat(estimate.updates), share, residual, {}))
        for one in found:
            for row, here in layout.rows.items():
                size = float(torch.linalg.vector_norm(one.gradient[here]))
                apart = [
                    float(torch.linalg.vector_norm(one.gradient[here] - other.gradient[here]))
                    for other in found
                    if other is not one and other.converged == 1
                ]
                one.differences[row] = max(apart) / size if apart and size > 0 else None
        return found


def convergence(estimate: Estimate) -> tuple[float, float]:
    """The share of rows that converged in every phase, and the largest residual of any phase."""
    phases = [estimate.free, *estimate.nudged]
    converged = torch.stack([phase.converged for phase in phases]).all(0)
    residual = max(float(phase.residual.max()) for phase in phases)
    return float(converged.double().mean()), residual


def stability(phases: Sequence[Solution]) -> float | None:
    """The largest real part of an eigenvalue at any point; None if no phase was checked."""
    found = [phase.abscissa for phase in phases if phase.abscissa is not None]
    known = [values[~values.isnan()] for values in found]
    return max((float(values.max()) for values in known if len(values)), default=None)
