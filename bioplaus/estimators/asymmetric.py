"""The exact method for untied weights: nudged phases with the Jacobian's asymmetry cancelled."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bioplaus.estimators.difference import AbstractDifference
from bioplaus.fields.base import VectorField
from bioplaus.nudging import AbstractDeviations, Nudge, symmetrised


@dataclass(frozen=True)
class AsymEP(AbstractDifference):
    """(dmu/dtheta)^T ds_beta/dbeta in the symmetrised field: exact as beta -> 0.

    For any asymmetry ds_beta/dbeta -> J^-T c, so that the estimate -> -dJ/dtheta, with error
    O(beta) one-sided and O(beta^2) centered. In all coordinates, the rule uses the change of the
    state itself.

    Source: Scurria, Vanden Abeele, Mognetti, Massar 2026 (arXiv 2602.03670).
    """

    name = "asym-ep"
    rank = 1

    def dynamics(
        self,
        field: VectorField,
        drive: Tensor,
        nudge: Nudge,
        free: Tensor,
        currents: Tensor | None = None,
    ) -> AbstractDeviations:
        return symmetrised(field, drive, nudge, free, currents)

    def displacement(self, field: VectorField, s: Tensor, d: Tensor) -> Tensor:
        return d
