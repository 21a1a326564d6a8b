"""Kolen-Pollack: feedback weights receive their partners' update, and both decay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.estimators.base import Batch
from bioplaus.estimators.vector_field import VectorFieldEP
from bioplaus.fields.base import VectorField
from bioplaus.fields.coupling import Coupling


@dataclass(frozen=True)
class KolenPollack(VectorFieldEP):
    """u_W = nu_W - decay W and u_B = nu_W^T - decay B, with nu of `vector-field`.

    Only the decay acts on the difference B - W^T. Under gradient steps with rate r it shrinks by
    the factor 1 - r decay per step, so that the weights align whatever the task.

    Attributes:
        decay: weight of the decay, >= 0; 0 leaves the estimate unchanged.

    Source: Kolen and Pollack 1994 (ICNN 3), equations 16 to 19; Akrout et al. 2019
    (arXiv 1904.05391), section 3.
    """

    name = "kolen-pollack"
    rank = 6
    decay: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decay < 0:
            raise InputError(f"decay={self.decay} must not be negative")

    def without_regulariser(self) -> Self:
        return replace(self, decay=0.0)

    def idle(self, coupling: Coupling) -> Mapping[str, str]:
        return {} if coupling.unpaired is None else {"decay": coupling.unpaired}

    def unfit(self, field: VectorField) -> str | None:
        if field.partners() or not field.lacks_partners():
            return None
        return (
            f"needs pairs of feedforward and feedback parameters, and {field!r} has none; use "
            "estimator='vector-field'"
        )

    def adjust(self, updates: dict[str, Tensor], batch: Batch, accepted: Tensor) -> None:
        field = batch.field
        for feedback, forward in field.partners().items():
            updates[feedback].copy_(field.mirror(feedback, updates[forward]))
        for names in field.partners().items():
            for name in names:
                updates[name].add_(field.parameters[name], alpha=-self.decay)
