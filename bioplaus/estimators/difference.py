"""Base class of estimators by finite differences in beta: two phases and a local rule."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cache, partial
from inspect import Parameter, signature

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.estimators.base import AbstractEstimator, Batch
from bioplaus.fields.base import VectorField
from bioplaus.nudging import AbstractDeviations, Nudge
from bioplaus.phases import nudged_phase, per_row, phase_pair
from bioplaus.solvers import Solution
from bioplaus.solvers.entry import recording

NUDGINGS = ("one-sided", "centered", "random-sign")
"""The schemes for the signs of beta in the nudged phases."""


@dataclass(frozen=True)
class AbstractDifference(AbstractEstimator):
    """(dmu/dtheta)^T ds_beta/dbeta, the derivative taken by finite differences in beta.

    - `one-sided`: (s_beta - s*) / beta, error O(beta);
    - `centered`: (s_beta - s_-beta) / (2 beta), error O(beta^2);
    - `random-sign`: one-sided with the sign of beta drawn for each row.

    Attributes:
        beta: strength of the nudge, not 0; a positive nudge pulls the outputs toward the target.
        nudging: type of nudge: one-sided, centered or random-sign.
        generator: of the signs of `random-sign`.

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 3; centered differences:
    Laborieux et al. 2021 (arXiv 2006.03824).
    """

    toward_only = ", or nudging='one-sided' with beta > 0"
    beta: float = 0.5
    nudging: str = "centered"
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nudging not in NUDGINGS:
            raise InputError(f"nudging={self.nudging!r}: use one of {', '.join(NUDGINGS)}")
        if self.beta == 0:
            raise InputError('beta=0 has no nudge; use beta > 0 or estimator="implicit"')

    def away(self) -> tuple[float, float]:
        return abs(self.beta), float(self.nudging != "one-sided" or self.beta < 0)

    @abstractmethod
    def dynamics(
        self,
        field: VectorField,
        drive: Tensor,
        nudge: Nudge,
        free: Tensor,
        currents: Tensor | None = None,
    ) -> AbstractDeviations:
        """Make the dynamics of a nudged phase.

        `currents` are those at s*, of a field of layers. They spare products; subclasses need not
        take them.
        """

    @abstractmethod
    def displacement(self, field: VectorField, s: Tensor, d: Tensor) -> Tensor:
        """What the local rule sees of a deviation `d` from the free state `s`, [B, n]."""

    def signed_beta(self, s: Tensor) -> Tensor:
        """beta as a column [B, 1]; `random-sign` draws a sign for each row."""
        beta = per_row(self.beta, s)
        if self.nudging == "random-sign":
            coin = torch.randint(0, 2, beta.shape, generator=self.generator)
            return beta * (2 * coin - 1).to(beta)
        return beta

    def response(self, batch: Batch) -> tuple[list[Solution], Tensor]:
        field, s = batch.field, batch.free.s
        common = (field, batch.drive, s, batch.cost, batch.target)
        known, made = batch.free.currents, self.dynamics
        if known is not None and _takes_currents(type(self)):
            made = partial(made, currents=known)
        if self.nudging == "centered":
            pair = phase_pair(*common, self.beta, settling=self.settling, dynamics=made)
            plus, minus = (self._displacement_at(field, s, end) for end in pair)
            return list(pair), (plus - minus).div_(2 * self.beta)
        beta = self.signed_beta(s)
        # computing the smallest |beta| of a column would make the host wait for the device
        given = self.beta if recording() else beta
        end = nudged_phase(*common, given, settling=self.settling, dynamics=made)
        return [end], self._displacement_at(field, s, end) / beta

    def _displacement_at(self, field: VectorField, s: Tensor, end: Solution) -> Tensor:
        assert end.deviation is not None
        return self.displacement(field, s, end.deviation)


@cache
def _takes_currents(kind: type[AbstractDifference]) -> bool:
    given = signature(kind.dynamics).parameters
    return "currents" in given or any(p.kind is Parameter.VAR_KEYWORD for p in given.values())
