"""The true gradient by autograd through the relaxation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.errors import InputError
from bioplaus.estimators.adjoint import judged, relative, rounding
from bioplaus.estimators.base import AbstractEstimator, Batch, Estimate
from bioplaus.fields.base import VectorField


class _End(NamedTuple):
    """The mean cost's slopes by parameter, and for each row the adjoint and two residuals."""

    slopes: dict[str, Tensor]
    adjoint: Tensor
    state_residual: Tensor
    adjoint_residual: Tensor


@dataclass(frozen=True)
class Unrolled(AbstractEstimator):
    """-dC(s_T)/dtheta for T steps s_{t+1} = s_t + dt mu(x, s_t) that start at s*.

    As T grows it converges to -dJ/dtheta, as fast as the powers of 1 + dt J_s decay. Memory grows
    with T. It uses only the field and autograd, no hand-written derivative.

    The derivative has converged if the derivative by a constant force u on every unit has. That
    is -a for a = sum_t (1 + dt J^T)^t dt (-c), and
    ||J^T a - c|| / ||c|| = ||(1 + dt J^T)^T c|| / ||c||. The estimate reports it as a phase, with
    the larger of this residual and that of s_T.

    Attributes:
        dt: size of an Euler step, in membrane time constants.
        steps: number T of steps to differentiate through, if the derivative converges in that many.
        most_steps: largest T. The residual after `steps` steps determines the T that is needed. If
            that exceeds this limit, T remains `steps`, and the residual shows what is missing.
    """

    name = "unrolled"
    rank = 2
    is_oracle = True
    dt: float = 0.5
    steps: int = 300
    most_steps: int = 1200

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.dt <= 1:
            raise InputError(f"dt={self.dt} must lie in (0, 1] membrane time constants")
        for name in ("steps", "most_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")

    def estimate(self, batch: Batch, out: dict[str, Tensor] | None) -> Estimate:
        field, x, free, cost = batch.field, batch.x, batch.free, batch.cost
        accepted = self.accepted(free)
        kept = self._rows(batch, accepted)
        steps, tolerance = self.steps, max(self.settling.tolerance, rounding(free.s.dtype))
        end = self._unroll(field, *kept, cost, steps)
        needed = _steps_needed(end.adjoint_residual, steps, tolerance)
        if steps < needed <= self.most_steps:
            steps = min(math.ceil(1.1 * needed), self.most_steps)
            end = self._unroll(field, *kept, cost, steps)
        residual = torch.full_like(free.residual, math.inf)
        residual[accepted] = torch.maximum(end.state_residual, end.adjoint_residual)
        adjoint = torch.zeros_like(free.s)
        adjoint[accepted] = end.adjoint
        phase = judged(adjoint, residual, torch.full_like(residual, steps), self.settling)
        within = self.accepted(free, phase)
        if bool((within != accepted).any()):  # the sum over rows is made anew without the others
            end = self._unroll(field, *self._rows(batch, within), cost, steps)
        updates = {} if out is None else out
        for name, slope in end.slopes.items():
            update = slope * (-len(end.adjoint) / len(x))
            updates[name] = update if out is None else out[name].copy_(update)
        return Estimate(updates, free, [phase], within)

    def _rows(self, batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Input, free state and target of the given rows."""
        return batch.x[rows], batch.free.s.detach()[rows], batch.target[rows]

    def _unroll(
        self, field: VectorField, x: Tensor, s: Tensor, target: Tensor, cost: AbstractCost, t: int
    ) -> _End:
        theta = {k: p.detach().clone().requires_grad_() for k, p in field.parameters.items()}
        rows = max(len(x), 1)
        with torch.enable_grad():
            u = torch.zeros_like(s, requires_grad=True)
            for _ in range(t):
                s = s + self.dt * (field.explicit_field(theta, x, s) + u)
            value = cost.value(s[:, field.output], target).sum() / rows
            *slopes, by_force = torch.autograd.grad(value, [*theta.values(), u])
            a, s = -rows * by_force, s.detach().requires_grad_()
            mu = field.explicit_field(theta, x, s)
            (back,) = torch.autograd.grad((mu * a).sum(), s)
            (c,) = torch.autograd.grad(cost.value(s[:, field.output], target).sum(), s)
        return _End(
            dict(zip(theta, slopes, strict=True)),
            a,
            relative(mu.detach(), s.detach()),
            relative(back - c, c),
        )


def _steps_needed(residual: Tensor, steps: int, tolerance: float) -> float:
    """T for the slowest row, if its residual r continues to fall like r^(T / steps)."""
    largest = float(residual.max()) if len(residual) else 0.0
    if largest <= tolerance:
        return 0
    return steps * math.log(tolerance) / math.log(largest) if largest < 1 else math.inf
