"""The dynamics of phases: free, nudged, and nudged with the Jacobian's asymmetry cancelled.

Layered fields are updated layer by layer, others as a whole; both compute the same F.
"""

from __future__ import annotations

from torch import Tensor

from bioplaus.fields.base import VectorField
from bioplaus.fields.layered import LayeredField
from bioplaus.nudging.confined import Confined
from bioplaus.nudging.deviations import Deviations, Symmetrised
from bioplaus.nudging.layered import Layered
from bioplaus.nudging.nudge import Nudge
from bioplaus.nudging.whole import Whole, WholeDeviations, WholeSymmetrised

AbstractDeviations = Deviations | WholeDeviations
"""Dynamics in deviations from s*; their `nudge` may be replaced."""


def absolute(field: VectorField, drive: Tensor, nudge: Nudge | None = None) -> Layered | Whole:
    """F(s) = mu(x, s) - beta dC/ds in the state itself; without a nudge, the free field."""
    kind = Layered if isinstance(field, LayeredField) else Whole
    return kind(field, drive, nudge)  # pyright: ignore[reportArgumentType]


def deviations(
    field: VectorField,
    drive: Tensor,
    nudge: Nudge,
    free: Tensor,
    currents: Tensor | None = None,
) -> Deviations | WholeDeviations:
    """The nudged field in deviations d = s - s*; `currents` at s* spare their products."""
    if isinstance(field, LayeredField):
        return Deviations(field, drive, nudge, free, currents)
    return WholeDeviations(field, drive, nudge, free)


def symmetrised(
    field: VectorField,
    drive: Tensor,
    nudge: Nudge,
    free: Tensor,
    currents: Tensor | None = None,
) -> Symmetrised | WholeSymmetrised:
    """The nudged field in deviations with J - J^T cancelled: the dynamics of asym-ep."""
    if isinstance(field, LayeredField):
        kind = Confined if field.is_linear() else Symmetrised
        return kind(field, drive, nudge, free, currents)
    return WholeSymmetrised(field, drive, nudge, free)


__all__ = [
    "AbstractDeviations",
    "Confined",
    "Deviations",
    "Layered",
    "Nudge",
    "Symmetrised",
    "Whole",
    "WholeDeviations",
    "WholeSymmetrised",
    "absolute",
    "deviations",
    "symmetrised",
]
