"""Continual equilibrium propagation: parameters move at every step of the nudged phase."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.errors import InputError
from bioplaus.estimators.base import Batch, Estimate
from bioplaus.estimators.vector_field import VectorFieldEP
from bioplaus.fields.base import VectorField
from bioplaus.nudging import Nudge, absolute
from bioplaus.solvers import Solution, solve


@dataclass(frozen=True)
class _Path:
    """A nudged phase: the states before each step, their changes over beta, and the solution."""

    states: list[Tensor]
    changes: list[Tensor]
    end: Solution


@dataclass(frozen=True)
class Continual(VectorFieldEP):
    """sum_t (dmu/dtheta)^T (s_{t+1} - s_t) / beta, each term applied as soon as it is known.

    While the nudged phase runs, parameters follow theta_{t+1} = theta_t + rate u_t; the update
    returned is the sum of the u_t. It is local in time as well as in space, and tends to that of
    `vector-field` as rate -> 0 and beta -> 0. The two signs of `centered` move the parameters
    together. Only the optimizer changes the parameters of the field itself.

    States are absolute: once the parameters have moved, s* is no longer a fixed point, and the
    change of mu there drives the phase. The division by beta amplifies rounding error, so that
    beta below 1e-3 needs float64.

    Attributes:
        rate: learning rate within the nudged phase, >= 0. With plain SGD at the same rate, the step
            of the optimizer ends at the parameters that the phase reached.

    Source: Ernoult, Grollier, Querlioz, Bengio, Scellier 2020 (arXiv 2005.04168), section 3.
    """

    name = "continual"
    rank = 4
    rate: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate < 0:
            raise InputError(f"rate={self.rate} must not be negative")

    def estimate(self, batch: Batch, out: dict[str, Tensor] | None) -> Estimate:
        field, x, free, target, cost = batch.field, batch.x, batch.free, batch.target, batch.cost
        beta, times = self.signed_beta(free.s), 1
        if self.nudging == "centered":
            beta, times = torch.cat((beta, -beta)), 2
        # a row whose free phase failed must not move the parameters that all rows share
        usable = self.accepted(free)[:, None]
        s, x = torch.where(usable, free.s, 0.0), torch.where(usable, x.flatten(1), 0.0).view_as(x)
        s, x, target, usable = (torch.cat([t] * times) for t in (s, x, target, usable))
        path = self._nudged_phase(field, x, target, cost, s, beta, usable)
        nudged = path.end.chunk(times)
        accepted = self.accepted(free, *nudged)
        # treat all steps of all rows as one batch; local_update averages over it
        steps = len(path.states)
        kept = accepted.repeat(times * steps)[:, None]
        s = torch.where(kept, torch.cat(path.states), 0.0)
        delta = torch.where(kept, torch.cat(path.changes), 0.0) * steps
        updates = field.local_update(torch.cat([x] * steps), s, delta, out)
        return Estimate(updates, free, nudged, accepted)

    def _nudged_phase(
        self,
        field: VectorField,
        x: Tensor,
        target: Tensor,
        cost: AbstractCost,
        s: Tensor,
        beta: Tensor,
        usable: Tensor,
    ) -> _Path:
        """Run a nudged phase step by step with a copy of the parameters that follows the rule."""
        moving = field.with_parameters({name: p.clone() for name, p in field.parameters.items()})
        update = {name: torch.empty_like(p) for name, p in field.parameters.items()}
        states, changes, settling = [], [], self.settling
        nudge, tolerance = Nudge(cost, target, beta), settling.nudged(self.beta, s.dtype)
        while True:
            end = solve(
                absolute(moving, moving.drive(x), nudge),
                s,
                settling.solver,
                tolerance=tolerance,
                max_steps=1,
            )
            states.append(s)
            changes.append(torch.where(usable, field.displacement(s, end.s - s) / beta, 0.0))
            moving.local_update(x, s, changes[-1], update)
            for name, parameter in moving.parameters.items():
                parameter.add_(update[name], alpha=self.rate)
            s = end.s
            if len(states) == settling.nudged_steps or bool(end.converged.all()):
                end = replace(end, n_steps=end.n_steps * len(states))
                return _Path(states, changes, end)
