"""The true gradient by finite differences of the cost, for small networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.errors import InputError
from bioplaus.estimators.base import AbstractEstimator, Estimate
from bioplaus.fields.base import AbstractField
from bioplaus.phases import free_phase
from bioplaus.solvers import Solution

MOST_PARAMETERS = 5000
"""Two free phases a parameter: above this number it is refused."""


@dataclass(frozen=True)
class FiniteDifference(AbstractEstimator):
    """-(8 [J(h) - J(-h)] - [J(2h) - J(-2h)]) / (12 h) for every entry of every parameter.

    The error is O(h^4) and the rounding of J over h; it needs a tight free phase.

    Attributes:
        h: step in the parameter.
    """

    name = "finite-difference"
    h: float = 1e-3

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
        count = sum(p.numel() for p in field.parameters.values())
        if count > MOST_PARAMETERS:
            raise InputError(
                f"finite-difference with {count} parameters needs {4 * count} free phases; use at "
                f"most {MOST_PARAMETERS} parameters, or the oracle implicit"
            )
        if free is None:
            free = free_phase(field, x, settling=self.settling)
        accepted = self.accepted(free)
        x, target, start = x[accepted], target[accepted], free.s[accepted]
        batch = len(accepted)

        def mean_cost() -> float:
            s = free_phase(field, x, settling=self.settling, start=start).s
            return float(cost.value(s[:, field.output], target).sum()) / batch

        updates = {name: torch.empty_like(p) for name, p in field.parameters.items()}
        for name, update in (out or updates).items():
            entries, slopes = field.parameters[name].view(-1), update.view(-1)
            for i in range(len(entries)):
                kept, costs = entries[i].clone(), []
                for k in (2, 1, -1, -2):
                    entries[i] = kept + k * self.h
                    costs.append(mean_cost())
                entries[i] = kept
                slopes[i] = (costs[0] - 8 * costs[1] + 8 * costs[2] - costs[3]) / (12 * self.h)
        return Estimate(out or updates, free, (), accepted)
