"""The true gradient by autograd through the relaxation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.estimators.base import AbstractEstimator, Estimate
from bioplaus.fields.base import AbstractField
from bioplaus.phases import free_phase
from bioplaus.solvers import Solution


@dataclass(frozen=True)
class Unrolled(AbstractEstimator):
    """-dC(s_T)/dtheta with s_{t+1} = s_t + dt mu(x, s_t), T steps that start at s*.

    It converges to -dJ/dtheta as T grows, like the powers of 1 + dt J_s. Memory grows with T.

    Attributes:
        dt: Euler step in membrane time constants.
        steps: T.
    """

    name = "unrolled"
    dt: float = 0.5
    steps: int = 300

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
        accepted = self.accepted(free)
        theta = {k: p.detach().clone().requires_grad_() for k, p in field.parameters.items()}
        with torch.enable_grad():
            s = free.s.detach()[accepted]
            for _ in range(self.steps):
                s = s + self.dt * field.explicit_field(theta, x[accepted], s)
            value = cost.value(s[:, field.output], target[accepted]).sum() / len(x)
            slopes = torch.autograd.grad(value, list(theta.values()))
        updates = {name: -slope for name, slope in zip(theta, slopes, strict=True)}
        if out is not None:
            for name, update in updates.items():
                out[name].copy_(update)
            updates = out
        return Estimate(updates, free, (), accepted)
