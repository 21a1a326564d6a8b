"""Equilibrium propagation for vector fields: the nudged phases follow the field itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bioplaus.estimators.difference import AbstractDifference
from bioplaus.fields.base import AbstractField
from bioplaus.nudging import Nudge
from bioplaus.phases import plain_dynamics
from bioplaus.solvers import AbstractDynamics


@dataclass(frozen=True)
class VectorField(AbstractDifference):
    """nu = (dmu/dtheta)^T ds_beta/dbeta with mu(x, s_beta) - beta dC/ds = 0.

    As beta -> 0, nu -> (dmu/dtheta)^T J_s^-1 c, which is -dJ/dtheta where J_s is symmetric.

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 3.
    """

    name = "vector-field"

    def dynamics(
        self, field: AbstractField, drive: Tensor, nudge: Nudge, free: Tensor
    ) -> AbstractDynamics:
        return plain_dynamics(field, drive, nudge, free)

    def displacement(self, field: AbstractField, s_plus: Tensor, s_minus: Tensor) -> Tensor:
        return field.displacement(s_plus, s_minus)
