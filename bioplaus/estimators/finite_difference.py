"""The true gradient by finite differences of the cost, for small networks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.errors import InputError
from bioplaus.estimators.base import AbstractEstimator, Batch, Estimate
from bioplaus.fields.base import VectorField
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Solution, Status

MOST_PARAMETERS = 5000
"""Largest number of parameter entries; each takes four free phases."""
TOLERANCE = 1e-12
"""Relative residual of the perturbed phases; the gradient divides it by h."""


@dataclass(frozen=True)
class FiniteDifference(AbstractEstimator):
    """-(8 [J(h) - J(-h)] - [J(2h) - J(-2h)]) / (12 h) for every entry of every parameter.

    The error is O(h^4) plus the error of J over h. The perturbed phases therefore settle to
    TOLERANCE, however loose the others are. The estimate reports them as one phase, with each
    row's largest residual and worst status.

    Attributes:
        h: step size in the parameter.
    """

    name = "finite-difference"
    rank = 3
    is_oracle = True
    h: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.h <= 0:
            raise InputError(f"h={self.h} is a step and must be > 0")

    def unfit(self, field: VectorField) -> str | None:
        count = sum(p.numel() for p in field.parameters.values())
        if count <= MOST_PARAMETERS:
            return None
        return (
            f"with {count} parameters needs {4 * count} free phases; use at most "
            f"{MOST_PARAMETERS} parameters, or the oracle implicit"
        )

    def estimate(self, batch: Batch, out: dict[str, Tensor] | None) -> Estimate:
        field, x, free, target, cost = batch.field, batch.x, batch.free, batch.target, batch.cost
        accepted = self.accepted(free)
        moved = field.with_parameters({k: p.clone() for k, p in field.parameters.items()})
        phases = _Perturbed(
            self.settling, moved, x[accepted], target[accepted], cost, free, accepted
        )
        slopes = {}
        for name, parameter in moved.parameters.items():
            entries, rows = parameter.view(-1), []
            for i in range(len(entries)):
                kept, costs = entries[i].clone(), []
                for k in (2, 1, -1, -2):
                    entries[i] = kept + k * self.h
                    costs.append(phases.costs())
                entries[i] = kept
                rows.append((costs[0] - 8 * costs[1] + 8 * costs[2] - costs[3]) / (12 * self.h))
            slopes[name] = torch.stack(rows)
        within = self.accepted(free, phases.worst)
        updates = {} if out is None else out
        for name, parameter in field.parameters.items():
            update = (slopes[name][:, within[accepted]].sum(1) / len(x)).view(parameter.shape)
            updates[name] = update if out is None else out[name].copy_(update)
        return Estimate(updates, free, [phases.worst], within)


class _Perturbed:
    """Free phases of a field with perturbed parameters, and the worst of them row by row."""

    def __init__(
        self,
        settling: Settling,
        field: VectorField,
        x: Tensor,
        target: Tensor,
        cost: AbstractCost,
        free: Solution,
        accepted: Tensor,
    ) -> None:
        tolerance = min(settling.tolerance, max(TOLERANCE, 100 * torch.finfo(x.dtype).eps))
        self.settling = replace(settling, tolerance=tolerance, verify=False)
        self.field, self.x, self.target, self.cost = field, x, target, cost
        self.start, self.accepted = free.s[accepted], accepted
        # rows outside the gate have no perturbed phases
        residual = torch.where(accepted, 0.0, torch.inf)
        status = torch.where(accepted, Status.CONVERGED, Status.MAX_STEPS).to(torch.int8)
        steps = torch.zeros_like(free.n_steps)
        self.worst = Solution(free.s, residual.to(free.residual), status, steps)

    def costs(self) -> Tensor:
        """Settle the rows again and return the cost of each."""
        end = free_phase(self.field, self.x, settling=self.settling, start=self.start)
        rows, worst = self.accepted, self.worst
        worst.residual[rows] = torch.maximum(worst.residual[rows], end.residual)
        worst.status[rows] = torch.maximum(worst.status[rows], end.status)
        worst.n_steps[rows] += end.n_steps
        return self.cost.value(end.s[:, self.field.output], self.target)
