"""Dyadic equilibrium propagation: a pair of states relaxes state and adjoint together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from bioplaus.costs import AbstractCost
from bioplaus.errors import InputError
from bioplaus.estimators.base import AbstractEstimator, Batch
from bioplaus.fields.base import VectorField
from bioplaus.fields.layered import LayeredField
from bioplaus.nudging import Nudge
from bioplaus.phases import per_row
from bioplaus.precision import double
from bioplaus.solvers import AbstractDynamics, Solution, solve


def _nudges(cost: AbstractCost, target: Tensor, beta: Tensor) -> tuple[Nudge, Nudge]:
    """Make two nudges, one with half of beta toward the target and one with half away from it."""
    return Nudge(cost, target, beta / 2), Nudge(cost, target, -beta / 2)


F = TypeVar("F", bound=VectorField)


class _AbstractDyad(AbstractDynamics, Generic[F]):
    """A pair of states of a field, nudged in opposite directions."""

    def __init__(
        self, field: F, drive: Tensor, cost: AbstractCost, target: Tensor, beta: Tensor
    ) -> None:
        """Fix the clamped input, the cost and the strength [B, 1]."""
        self.field, self.drive = field, drive
        self.cost, self.target, self.beta = cost, target, beta
        self.nudges = _nudges(cost, target, beta)


class Dyad(_AbstractDyad[LayeredField]):
    """ds+-/dt = mu(m) +- J(m)^T d / 2 -+ (beta/2) c(s+-), with m = (s+ + s-)/2, d = s+ - s-.

    These are descent in d and ascent in m on d . mu(m) - (beta/2) (C(s+) + C(s-)). The mean relaxes
    like the free state, and the difference like its adjoint, dd/dt = J(m)^T d - beta c. Each
    state of the pair is nudged with half of beta, one toward the target and one away from it.

    The state is [B, 2n]: s+ and s- side by side.
    """

    def __init__(
        self, field: LayeredField, drive: Tensor, cost: AbstractCost, target: Tensor, beta: Tensor
    ) -> None:
        super().__init__(field, drive, cost, target, beta)
        layers = tuple(range(len(field.layers)))
        self.order = layers[::-1]
        self.groups = tuple(sorted(field.groups, key=lambda group: self.order[0] not in group))

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        pair, moved = s.chunk(2, 1), out.chunk(2, 1)
        for side, currents in enumerate(self._currents(pair, range(len(self.field.layers)))):
            own = self.field.split(pair[side])
            for k, there in enumerate(self.field.split(moved[side])):
                there.copy_(self.field.confine(self._nudged(currents[k], own[k], side, k), k))
                there.sub_(own[k])
        return out

    def force_after_settling(self, s: Tensor, out: Tensor) -> Tensor:
        return self.force(s, out)

    def settle(self, s: Tensor, group: tuple[int, ...]) -> None:
        pair = s.chunk(2, 1)
        for side, currents in enumerate(self._currents(pair, group)):
            for k, own in enumerate(self.field.split(pair[side])):
                if k in group:
                    step = self._nudged(currents[k], own, side, k).sub_(own)
                    self._shift(own, step, side, k)

    def shift(self, s: Tensor, group: tuple[int, ...], step: Tensor) -> None:
        for side, (own, move) in enumerate(zip(s.chunk(2, 1), step.chunk(2, 1), strict=True)):
            parts, moves = self.field.split(own), self.field.split(move)
            for k in group:
                self._shift(parts[k], moves[k], side, k)

    def take(self, rows: Tensor) -> Dyad:
        return Dyad(self.field, self.drive[rows], self.cost, self.target[rows], self.beta[rows])

    def precise(self) -> Dyad:
        drive, target, beta = (double(t) for t in (self.drive, self.target, self.beta))
        return Dyad(self.field.precise(), drive, self.cost, target, beta)

    def _currents(
        self, pair: Sequence[Tensor], layers: Sequence[int]
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """The currents into the layers of s+ and of s-, without leak and nudge."""
        m, d = (pair[0] + pair[1]) / 2, pair[0] - pair[1]
        v, means = self.field.split(d), self.field.split(m)
        r = [self.field.activity(own, k) for k, own in enumerate(means)]
        wires = self.field.wires_at(r)
        plus, minus = {}, {}
        for k in layers:
            a = self.field.current(r, self.drive, k, torch.empty_like(means[k]))
            back = self.field.transposed_current(v, k, torch.empty_like(a), wires)
            back.mul_(self.field.layer_slope(means[k], a, k))
            plus[k] = torch.add(a, back, alpha=0.5)
            minus[k] = torch.add(a, back, alpha=-0.5)
        return plus, minus

    def _nudged(self, current: Tensor, own: Tensor, side: int, k: int) -> Tensor:
        last = k == len(self.field.layers) - 1
        return self.nudges[side].added_to(current, own) if last else current

    def _shift(self, own: Tensor, step: Tensor, side: int, k: int) -> None:
        if k == len(self.field.layers) - 1:
            step = self.nudges[side].scaled(step)
        self.field.confine(own.add_(step), k)


class WholeDyad(_AbstractDyad[VectorField]):
    """The same dynamics for any vector field, all units at once."""

    groups = ((0,),)
    order = (0,)

    @property
    def depth(self) -> int:
        return self.field.depth

    def force(self, s: Tensor, out: Tensor) -> Tensor:
        plus, minus = s.chunk(2, 1)
        at = self.field.linearise((plus + minus) / 2, self.drive)
        mu, back = self.field.driven(self.drive, at.s), at.vjp(plus - minus) / 2
        here, start = self.field.output, self.field.output.start
        for side, own in enumerate((plus, minus)):
            force = mu + back if side == 0 else mu - back
            nudged = self.nudges[side].added_to(force[:, here], own[:, here])
            torch.cat((force[:, :start], nudged), 1, out=out.chunk(2, 1)[side])
        return out

    def force_after_settling(self, s: Tensor, out: Tensor) -> Tensor:
        return self.force(s, out)

    def settle(self, s: Tensor, group: tuple[int, ...]) -> None:
        self.shift(s, group, self.force(s, torch.empty_like(s)))

    def shift(self, s: Tensor, group: tuple[int, ...], step: Tensor) -> None:
        start = self.field.output.start
        for side, (own, move) in enumerate(zip(s.chunk(2, 1), step.chunk(2, 1), strict=True)):
            own[:, :start] += move[:, :start]
            own[:, start:] += self.nudges[side].scaled(move[:, start:])

    def take(self, rows: Tensor) -> WholeDyad:
        some = (self.drive[rows], self.cost, self.target[rows], self.beta[rows])
        return WholeDyad(self.field, *some)

    def precise(self) -> WholeDyad:
        drive, target, beta = (double(t) for t in (self.drive, self.target, self.beta))
        return WholeDyad(self.field.precise(), drive, self.cost, target, beta)


@dataclass(frozen=True)
class Dyadic(AbstractEstimator):
    """(dmu/dtheta)^T (s+ - s-) / beta: exact as beta -> 0, with error O(beta^2).

    The pair is stored as two absolute states, since neither stays near s* while the other moves.
    Dividing their difference by beta amplifies rounding error, so that beta below 1e-3 needs
    float64.

    In clipped coordinates J^T d is restricted to the units inside the box, as in `asym-ep`.

    Attributes:
        beta: strength of the nudge, not 0; each state of the pair is nudged with half of it.

    Source: the doubled state of Scurria, Vanden Abeele, Mognetti, Massar 2026 (arXiv 2602.03670);
    the nudge of both partners after dual propagation, Hoier, Staudt, Zach 2023
    (arXiv 2302.01228).
    """

    name = "dyadic"
    rank = 2
    beta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta == 0:
            raise InputError('beta=0 has no nudge; use beta > 0 or estimator="implicit"')

    def away(self) -> tuple[float, float]:
        return abs(self.beta), 0.5  # each state of the pair is nudged with half of beta

    def response(self, batch: Batch) -> tuple[list[Solution], Tensor]:
        beta, free = per_row(self.beta, batch.free.s), batch.free.s
        kind = Dyad if isinstance(batch.field, LayeredField) else WholeDyad
        end = solve(
            kind(batch.field, batch.drive, batch.cost, batch.target, beta),  # pyright: ignore[reportArgumentType]
            torch.cat((free, free), 1),
            self.settling.solver,
            tolerance=self.settling.nudged(self.beta, free.dtype),
            max_steps=self.settling.nudged_steps,
            check_every=self.settling.check_every,
            verify=self.settling.verify,
        )
        plus, minus = end.s.chunk(2, 1)
        return [end], (plus - minus).div_(self.beta)
