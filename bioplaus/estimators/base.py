"""The interface of all estimators of dJ/dtheta."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from bioplaus.calling import Answered
from bioplaus.comparing import Alike
from bioplaus.costs import AbstractCost
from bioplaus.errors import InputError
from bioplaus.fields.base import VectorField
from bioplaus.fields.coupling import Coupling, coupling_of
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Solution, Status
from bioplaus.solvers.entry import recording


@dataclass(frozen=True, eq=False)
class Estimate(Alike):
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
class Batch:
    """The input of an estimator: rows with their s*, at which the mean cost's slope is sought.

    Attributes:
        field: the vector field.
        x: clamped input, one per row.
        drive: `field.drive(x)`.
        free: the free phase.
        target: y, [B, m].
        cost: C.
    """

    field: VectorField
    x: Tensor
    drive: Tensor
    free: Solution
    target: Tensor
    cost: AbstractCost


@dataclass(frozen=True)
class AbstractEstimator(metaclass=Answered):
    """An estimator of -dJ/dtheta, where J is the mean of C(s*) over the batch.

    Attributes:
        settling: how its phases settle.
        gate: rows whose residual in any phase is above this, that diverged, or that rest at a point
            which does not attract, do not enter the update (they count as zero): an unconverged
            phase is a wrong gradient.
    """

    name: ClassVar[str]
    rank: ClassVar[int]
    """Position in lists. It is not inherited; classes without it come last, sorted by name."""
    is_oracle: ClassVar[bool] = False
    """Whether it computes the true gradient, up to its tolerance."""
    toward_only: ClassVar[str] = ""
    """End of a message that says how to nudge phases toward the target only."""
    settling: Settling = field(default_factory=Settling)
    gate: float = math.inf

    def __post_init__(self) -> None:
        if not isinstance(self.settling, Settling):
            raise InputError(
                f"settling is {type(self.settling).__name__}; give a bioplaus.Settling, e.g. "
                "Settling(tolerance=1e-4)"
            )
        if self.gate <= 0:
            raise InputError(f"gate={self.gate} must be a residual > 0; inf takes every row")

    def __init_subclass__(cls) -> None:
        if not hasattr(cls, "name") and not cls.__name__.startswith("Abstract"):
            cls.name = cls.__name__

    def missing(self, field: VectorField, cost: AbstractCost) -> str | None:
        """One line on what this estimator lacks to serve a field and a cost; None if nothing.

        Leaky integrators nudged away from the target, at -beta, become unstable once beta times the
        curvature of the cost reaches their leak, 1. A zero that a solver may still find there is
        not a fixed point that the network would reach.
        """
        if reason := self.unfit(field):
            return f"estimator={self.name!r} {reason}"
        if reason := self.settling.solver.unfit(self.name, field, cost):
            return reason
        beta, share = self.away()
        steepest = cost.curvature if cost.steepest is None else cost.steepest
        if beta * share * steepest < 1:
            return None
        return (
            f"beta={beta:g} is too strong for estimator={self.name!r}: with cost={cost.name!r} "
            f"outputs that are nudged away from the target with {1 / steepest:g} or more run "
            f"off; use a beta below {1 / (share * steepest):g}{self.toward_only}"
        )

    def check(self, field: VectorField, cost: AbstractCost) -> None:
        """Reject a field or a cost that this estimator cannot serve; see `missing`.

        Raises:
            InputError: the message says why and what to use.
        """
        if reason := self.missing(field, cost):
            raise InputError(reason)

    def away(self) -> tuple[float, float]:
        """|beta|, and the largest fraction of it that nudges away from the target in any phase."""
        return 0.0, 0.0

    def unfit(self, field: VectorField) -> str | None:
        """Why this estimator cannot serve a field; None if it can."""
        return None

    def idle(self, coupling: Coupling) -> Mapping[str, str]:
        """Say which settings have no effect on fields that are coupled in some way.

        Returns:
            The reason by setting; it continues "has no effect ".
        """
        return {}

    def require_effect(self, field: VectorField, prefix: str = "") -> None:
        """Reject settings other than the defaults that have no effect on a field; see `idle`.

        Args:
            field: the vector field.
            prefix: of the settings in the message, such as "estimator.".

        Raises:
            InputError: one line for each such setting.
        """
        usual = {each.name: each.default for each in fields(self)}
        found = self.idle(coupling_of(field)).items()
        lines = [
            f"{prefix}{name}={value} has no effect {why}"
            for name, why in found
            if (value := getattr(self, name)) != usual[name]
        ]
        if lines:
            raise InputError(*lines)

    def without_regulariser(self) -> Self:
        """The same estimator with an update that is only the estimate of -dJ/dtheta."""
        return self

    @final
    @torch.no_grad()
    def __call__(
        self,
        field: VectorField,
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
            x: clamped input, one per row.
            target: y, [B, m].
            cost: C.
            free: the free phase if it is known already.
            out: buffers for the updates.

        Raises:
            InputError: the estimator cannot serve the field or the cost.
        """
        self.check(field, cost)
        drive = field.drive(x)
        if free is None:
            free = free_phase(field, x, settling=self.settling, drive=drive)
        return self.estimate(Batch(field, x, drive, free, target, cost), out)

    def estimate(self, batch: Batch, out: dict[str, Tensor] | None) -> Estimate:
        """Apply the local rule (dmu/dtheta)^T delta to the rows within the gate in every phase."""
        nudged, delta = self.response(batch)
        accepted, s = self.accepted(batch.free, *nudged), batch.free.s
        if recording() or not bool(accepted.all()):
            delta = torch.where(accepted[:, None], delta, 0.0)
            s = torch.where(accepted[:, None], s, 0.0)
        updates = batch.field.local_update(batch.x, s, delta, out)
        self.adjust(updates, batch, accepted)
        return Estimate(updates, batch.free, nudged, accepted)

    def response(self, batch: Batch) -> tuple[list[Solution], Tensor]:
        """Run the nudged phases, and estimate ds/dbeta [B, n] from them.

        An estimator without a local rule overrides `estimate` instead.
        """
        raise NotImplementedError

    def adjust(self, updates: dict[str, Tensor], batch: Batch, accepted: Tensor) -> None:
        """Add the rule's terms beyond the estimate of -dJ/dtheta to the updates, in place."""
        return

    def accepted(self, *phases: Solution) -> Tensor:
        """Whether each row is within the gate in every phase, [B]."""
        ok = torch.ones_like(phases[0].residual, dtype=torch.bool)
        for phase in phases:
            ok &= (phase.residual <= self.gate) & (phase.status < Status.UNSTABLE)
        return ok
