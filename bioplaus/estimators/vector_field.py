"""Equilibrium propagation for vector fields: the nudged phases follow the field itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bioplaus.estimators.difference import AbstractDifference
from bioplaus.fields.base import VectorField
from bioplaus.nudging import AbstractDeviations, Nudge, deviations


@dataclass(frozen=True)
class VectorFieldEP(AbstractDifference):
    """nu = (dmu/dtheta)^T ds_beta/dbeta with mu(x, s_beta) - beta dC/ds = 0.

    As beta -> 0, nu -> (dmu/dtheta)^T J_s^-1 c, which is -dJ/dtheta if J_s is symmetric.

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 3.
    """

    name = "vector-field"
    rank = 0

    def dynamics(
        self,
        field: VectorField,
        drive: Tensor,
        nudge: Nudge,
        free: Tensor,
        currents: Tensor | None = None,
    ) -> AbstractDeviations:
        return deviations(field, drive, nudge, free, currents)

    def displacement(self, field: VectorField, s: Tensor, d: Tensor) -> Tensor:
        return field.displacement(s, d)
