"""Homeostasis: the update of `vector-field` plus one that makes the Jacobian more symmetric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.estimators.base import Batch
from bioplaus.estimators.vector_field import VectorFieldEP
from bioplaus.fields.coupling import Coupling


@dataclass(frozen=True)
class Homeostasis(VectorFieldEP):
    """The update of `vector-field` minus strength times the gradient of the homeostatic loss.

    The loss is E[||J_s e||^2 - e^T J_s^2 e] = ||J_s - J_s^T||_F^2 / 2 with e standard normal, at
    the free fixed point, which is held fixed. For leaky integrators its gradient is known in closed
    form, so that no e is drawn. Other fields draw a few if their state is large.

    Attributes:
        strength: weight of the homeostatic loss, >= 0; 0 leaves the estimate of -dJ/dtheta
            unchanged.

    Source: Laborieux and Zenke 2024 (ICLR; arXiv 2309.02214), section 4.
    """

    name = "homeostasis"
    rank = 5
    strength: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength < 0:
            raise InputError(f"strength={self.strength} must not be negative")

    def idle(self, coupling: Coupling) -> Mapping[str, str]:
        why = coupling.alone or coupling.symmetric
        return {} if why is None else {"strength": why}

    def without_regulariser(self) -> Self:
        return replace(self, strength=0.0)

    def adjust(self, updates: dict[str, Tensor], batch: Batch, accepted: Tensor) -> None:
        if self.strength and bool(accepted.any()):
            s, drive = batch.free.s[accepted], batch.drive[accepted]
            found = batch.field.symmetrising_update(s, drive, self.generator)
            for name, update in found.items():
                updates[name].add_(update, alpha=self.strength)
