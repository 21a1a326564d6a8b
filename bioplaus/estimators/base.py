"""The interface of an estimator of dJ/dtheta."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.errors import InputError
from bioplaus.fields.base import AbstractField
from bioplaus.phases import Settling
from bioplaus.solvers import Solution, Status


@dataclass(frozen=True)
class Estimate:
    """An update of the parameters and the phases it came from.

    Attributes:
        updates: name -> tensor, an estimate of -dJ/dtheta: parameters move by + rate * update.
        free: the free phase.
        nudged: the nudged phases, none for an oracle that needs none.
        accepted: the rows that entered the update, [B].
    """

    updates: dict[str, Tensor]
    free: Solution
    nudged: Sequence[Solution]
    accepted: Tensor


@dataclass(frozen=True)
class AbstractEstimator(ABC):
    """An estimator of -dJ/dtheta, J the mean of C(s*) over the batch.

    Attributes:
        settling: how its phases settle.
        gate: rows whose residual in any phase is above this, that diverged, or that rest at a point
            which does not attract, do not enter the update (they count as zero): an unconverged
            phase is a wrong gradient.
    """

    name: ClassVar[str]
    toward_only: ClassVar[str] = ""
    """How to have phases nudged toward the target only, as a message goes on."""
    settling: Settling = field(default_factory=Settling)
    gate: float = math.inf

    def check(self, field: AbstractField, cost: AbstractCost) -> None:
        """Whether this estimator can serve a field and a cost.

        Leaky integrators nudged away from the target, at -beta, are unstable once beta times the
        curvature of the cost reaches their leak, 1: the zero that a solver may still find there
        says nothing about the network.

        Raises:
            InputError: it cannot; the message says why and what to use.
        """
        if reason := self.unfit(field):
            raise InputError(f"estimator={self.name!r} {reason}")
        beta, share = self.away()
        steepest = cost.curvature if cost.steepest is None else cost.steepest
        if beta * share * steepest >= 1:
            raise InputError(
                f"beta={beta:g} is too strong for estimator={self.name!r}: with cost={cost.name!r} "
                f"outputs that are nudged away from the target with {1 / steepest:g} or more run "
                f"off; use a beta below {1 / (share * steepest):g}{self.toward_only}"
            )

    def away(self) -> tuple[float, float]:
        """|beta|, and the largest share of it that nudges away from the target in any phase."""
        return 0.0, 0.0

    def unfit(self, field: AbstractField) -> str | None:
        """Why this estimator cannot serve a field; None where it can."""
        return None

    def without_regulariser(self) -> Self:
        """The same estimator with nothing in its update but the estimate of -dJ/dtheta."""
        return self

    @abstractmethod
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
        """Estimate -dJ/dtheta on a batch.

        Args:
            field: the vector field.
            x: clamped input, [B, n_in].
            target: y, [B, m].
            cost: C.
            free: the free phase if it is known already.
            out: buffers for the updates.
        """

    def apply_rule(
        self,
        field: AbstractField,
        x: Tensor,
        free: Solution,
        nudged: Sequence[Solution],
        delta: Tensor,
        out: dict[str, Tensor] | None,
    ) -> Estimate:
        """The local rule on the rows whose residual is within the gate in every phase.

        Args:
            field, x, free, nudged, out: as in `__call__` and `Estimate`.
            delta: an estimate of ds/dbeta, [B, n].
        """
        accepted = self.accepted(free, *nudged)
        s = free.s
        if not bool(accepted.all()):
            delta = torch.where(accepted[:, None], delta, 0.0)
            s = torch.where(accepted[:, None], s, 0.0)
        return Estimate(field.local_update(x, s, delta, out), free, nudged, accepted)

    def accepted(self, *phases: Solution) -> Tensor:
        """Rows that are within the gate in every phase, [B]."""
        ok = torch.ones_like(phases[0].residual, dtype=torch.bool)
        for phase in phases:
            ok &= (phase.residual <= self.gate) & (phase.status < Status.UNSTABLE)
        return ok
