"""What estimators by finite differences in beta share: two settlings and a local rule."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.errors import InputError
from bioplaus.estimators.base import AbstractEstimator, Estimate
from bioplaus.fields.base import AbstractField
from bioplaus.nudging import Nudge
from bioplaus.phases import free_phase, nudged_phase, per_row, phase_pair
from bioplaus.solvers import AbstractDynamics, Solution

NUDGINGS = ("one-sided", "centered", "random-sign")


@dataclass(frozen=True)
class AbstractDifference(AbstractEstimator):
    """(dmu/dtheta)^T ds_beta/dbeta, the derivative taken by finite differences in beta.

    - `one-sided`: (s_beta - s*) / beta, error O(beta);
    - `centered`: (s_beta - s_-beta) / (2 beta), error O(beta^2);
    - `random-sign`: one-sided with the sign of beta drawn for each row.

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 3; centered differences:
    Laborieux et al. 2021 (arXiv 2006.03824).
    """

    toward_only = ", or nudging='one-sided' with beta > 0"
    beta: float = 0.5
    nudging: str = "centered"
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.nudging not in NUDGINGS:
            raise InputError(f"nudging={self.nudging!r}: use one of {', '.join(NUDGINGS)}")
        if self.beta == 0:
            raise InputError('beta=0 has no nudge; use beta > 0 or estimator="implicit"')

    def away(self) -> tuple[float, float]:
        return abs(self.beta), float(self.nudging != "one-sided" or self.beta < 0)

    @abstractmethod
    def dynamics(
        self, field: AbstractField, drive: Tensor, nudge: Nudge, free: Tensor
    ) -> AbstractDynamics:
        """The dynamics of a nudged phase."""

    @abstractmethod
    def displacement(self, field: AbstractField, s_plus: Tensor, s_minus: Tensor) -> Tensor:
        """The change of state that the local rule sees, [B, n]."""

    def signed_beta(self, s: Tensor) -> Tensor:
        """beta as a column [B, 1], for `random-sign` with a sign drawn for each row."""
        beta = per_row(self.beta, s)
        if self.nudging == "random-sign":
            coin = torch.randint(0, 2, beta.shape, generator=self.generator)
            return beta * (2 * coin - 1).to(beta)
        return beta

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
        self.check(field, cost)
        drive = field.drive(x)
        if free is None:
            free = free_phase(field, x, settling=self.settling, drive=drive)
        nudged, delta = self._difference(field, drive, free.s, target, cost)
        estimate = self.apply_rule(field, x, free, nudged, delta, out)
        self.adjust(estimate, field, drive)
        return estimate

    def adjust(self, estimate: Estimate, field: AbstractField, drive: Tensor) -> None:
        """Change the updates in place where a rule adds to the estimate of -dJ/dtheta."""

    def _difference(
        self, field: AbstractField, drive: Tensor, s: Tensor, target: Tensor, cost: AbstractCost
    ) -> tuple[list[Solution], Tensor]:
        """The nudged phases from the free fixed point `s` and their estimate of ds/dbeta."""
        if self.nudging == "centered":
            pair = phase_pair(
                field,
                drive,
                s,
                cost,
                target,
                self.beta,
                settling=self.settling,
                dynamics=self.dynamics,
            )
            change = self.displacement(field, pair[0].s, pair[1].s)
            return list(pair), change.div_(2 * self.beta)
        beta = self.signed_beta(s)
        end = nudged_phase(
            field,
            drive,
            s,
            cost,
            target,
            beta,
            settling=self.settling,
            dynamics=self.dynamics,
        )
        return [end], self.displacement(field, end.s, s).div_(beta)
