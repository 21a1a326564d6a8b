"""Sweeps up and down a chain of layers that recompute only the products that have changed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.solvers.base import AbstractDynamics, Carry
from bioplaus.solvers.looking import WINDOW, look_at
from bioplaus.solvers.sweeps import SweepCarry, Sweeps

FALL = 2.5
"""A pass is taken to divide the residual of a row by at most this, so that some checks are left
out."""

Link = tuple[int, int]
"""A layer that sends a signal, and the one that receives it."""


@dataclass
class ChainCarry(SweepCarry):
    """Memory of `SymmetricSweeps`: the signals between neighbours, and which of them are old.

    Attributes:
        chain: the dynamics, if its layers form a chain; otherwise None.
        links: the links of the chain.
        signals: the signal into each layer from below and from above, [B, 2, n].
        silent: layers that send no signal yet.
        old: links whose source has moved since their signal was computed.
        off: layers that are not settled given their newest signals.
        up: whether the last pass went up.
        tolerance: relative residual at which rows end.
        final: whether no step is left after the next check.
        looks: number of checks.
        wait: passes until a row may have ended.
    """

    chain: Any = None
    links: frozenset[Link] = frozenset()
    signals: Tensor | None = None
    silent: frozenset[int] = frozenset()
    old: frozenset[Link] = frozenset()
    off: frozenset[int] = frozenset()
    up: bool = False
    tolerance: float = 0.0
    final: bool = False
    looks: int = 0
    wait: int = 1
    signal: dict[Link, Tensor] = field(default_factory=dict, repr=False)
    forces: list[Tensor] = field(default_factory=list, repr=False)
    kept: list[Tensor] = field(default_factory=list, repr=False)

    def take(self, rows: Tensor) -> ChainCarry:
        new = ChainCarry(self.force, self.fresh, steps=self.steps, swept=self.swept)
        if self.signals is None:
            new.force = self.force.index_select(0, rows)
            return new
        new.chain, new.links, new.silent = self.chain, self.links, self.silent
        new.old, new.off, new.up, new.looks = self.old, self.off, self.up, self.looks
        new.wait, new.fresh = self.wait, False
        new.split(self.signals.index_select(0, rows), keep=self.currents is not None)
        return new

    def split(self, signals: Tensor, *, keep: bool) -> None:
        """Store signals [B, 2, n], make buffers for the forces and currents, and slice them."""
        cut, self.signals = self.chain.field.split, signals
        below, above = cut(signals[:, 0]), cut(signals[:, 1])
        self.signal = {(j, k): (below if j < k else above)[k] for j, k in self.links}
        self.force = signals.new_empty(len(signals), signals.shape[2])
        self.forces = cut(self.force)
        self.currents = torch.zeros_like(self.force) if keep else None
        self.kept = [] if self.currents is None else cut(self.currents)

    def into(self, k: int) -> list[Tensor]:
        """The signals into a layer."""
        near = ((k - 1, k), (k + 1, k))
        return [self.signal[at] for at in near if at in self.signal and at[0] not in self.silent]


@dataclass(frozen=True)
class SymmetricSweeps(Sweeps):
    """Symmetric block Gauss-Seidel: settle the layers of a chain in turn, up and down.

    A step is one pass, up or down. Each product between two layers is computed only if its source
    has moved, so that a pass costs half an evaluation of the field. The outputs, which are few, and
    the layer below them settle each other `repeats` times in a pass. Fields whose layers do not
    form a chain are swept as by `Sweeps`.

    Attributes:
        repeats: how often a pass settles the outputs and the layer below them; twice as often if
            there is no other layer.

    Source: Young 1971, Iterative Solution of Large Linear Systems, chapter 15.
    """

    from_rest = True
    of_loops = ("repeats",)
    repeats: int = 2

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise InputError(f"repeats={self.repeats} must be at least 1")

    def init(self, dynamics: AbstractDynamics, s: Tensor) -> SweepCarry:
        links = dynamics.links()
        if links is None:
            return ChainCarry(torch.empty_like(s))
        carry = ChainCarry(s, chain=dynamics, links=links, silent=dynamics.resting, old=links)
        carry.off = frozenset(dynamics.order)
        carry.split(s.new_zeros(len(s), 2, s.shape[1]), keep=bool(dynamics.boxed()))
        carry.chain.fire(s)
        return carry

    def reach(self, dynamics: AbstractDynamics) -> int:
        return 3 if len(dynamics.order) > 2 else 1

    def _least(self, dynamics: AbstractDynamics) -> int:
        """Passes between checks: where layers are several, a check costs as much as a pass."""
        return 2 if len(dynamics.order) > 2 else 1

    def advance(
        self,
        dynamics: AbstractDynamics,
        s: Tensor,
        carry: Carry,
        steps: int,
        most: int,
        tolerance: float,
    ) -> int:
        assert isinstance(carry, ChainCarry)
        steps = min(max(steps, carry.wait), most)
        carry.tolerance, carry.final = tolerance, steps == most
        return super().advance(dynamics, s, carry, steps, most, tolerance)

    def step(self, dynamics: AbstractDynamics, s: Tensor, carry: Carry) -> None:
        assert isinstance(carry, ChainCarry)
        if carry.signals is None:
            super().step(dynamics, s, carry)
            return
        chain, first = self._at(dynamics, s, carry), carry.steps == 0
        up = dynamics.order[0] == 0 if first else not carry.up
        way = self._way(len(dynamics.order), up, first=first)
        for k, links in _plan(carry.links, way, carry.old, carry.silent):
            for link in links:
                chain.send(s, link, carry.signal[link])
            if chain.settle_by(s, k, carry.into(k)):
                carry.off -= {k}
            if carry.silent:
                carry.silent -= {k}
        carry.old, moved = _left(carry.links, way, carry.old)
        carry.off |= moved
        carry.up, carry.steps = up, carry.steps + 1

    def measure(self, dynamics: AbstractDynamics, s: Tensor, carry: Carry) -> Tensor:
        """F(s); rows that cannot have ended may lack the parts that cost most.

        A row ends only if all its parts are small. The parts whose products the next pass can use
        are therefore computed first, and the others only for rows that may end.
        """
        assert isinstance(carry, ChainCarry)
        if carry.signals is None:
            return super().measure(dynamics, s, carry)
        if carry.fresh:
            return carry.force
        chain, carry.fresh, last = self._at(dynamics, s, carry), True, len(dynamics.order) - 1
        carry.looks += 1
        following = self._way(last + 1, not carry.up, first=False)[0]
        wanted = {following, last, last - 1}
        if carry.final or carry.looks % WINDOW == 0:  # rows that are stuck end too
            wanted = set(dynamics.order)
        for link in [link for link in carry.old if link[1] in wanted]:
            chain.send(s, link, carry.signal[link])
            carry.old -= {link}
        later = frozenset(k for _, k in carry.old)
        for k in dynamics.order:
            if k not in carry.off or k in later:
                carry.forces[k].zero_()
        self._measure(carry, s, carry.off - later)
        ratio = look_at(dynamics, s, carry.force, carry.tolerance).residual
        rows = (~(ratio > carry.tolerance)).nonzero()[:, 0]  # also those that are no number
        carry.wait = self._least(dynamics)
        if carry.tolerance > 0 and len(rows) == 0 < len(ratio):
            fall = float(ratio.min()) / carry.tolerance
            if fall < math.inf:
                carry.wait = max(carry.wait, math.ceil(math.log(fall) / math.log(FALL)))
            if not carry.final:
                return carry.force
        for link in carry.old:
            chain.send(s, link, carry.signal[link], rows)
        self._measure(carry, s, later)
        if carry.currents is not None:
            for k in set(chain.boxed()) - carry.off:
                chain.receive(k, carry.into(k), carry.kept[k])
        return carry.force

    def _way(self, layers: int, up: bool, *, first: bool) -> tuple[int, ...]:
        """The layers in the order of one pass, without those that are settled already."""
        top = (layers - 2, layers - 1)
        if layers == 2:
            return (top if up or not first else top[::-1]) * (2 * self.repeats)
        if up:
            return (*range(0 if first else 1, layers - 2), *top * self.repeats)
        return (*(top[::-1] * self.repeats if first else ()), *range(layers - 3, -1, -1))

    def _at(self, dynamics: AbstractDynamics, s: Tensor, carry: ChainCarry) -> Any:
        """The dynamics of the rows that are left, ready to send signals."""
        if carry.chain is not dynamics:
            carry.chain = dynamics
            carry.chain.fire(s)
        return carry.chain

    def _measure(self, carry: ChainCarry, s: Tensor, layers: Iterable[int]) -> None:
        for k in layers:
            kept = carry.kept[k] if carry.kept else None
            carry.chain.force_by(s, k, carry.into(k), carry.forces[k], kept)


@lru_cache(maxsize=256)
def _plan(
    links: frozenset[Link], way: tuple[int, ...], old: frozenset[Link], silent: frozenset[int]
) -> list[tuple[int, list[Link]]]:
    """The layers of a pass in order, each with the links whose signals are needed anew."""
    found = []
    for k in way:
        found.append((k, sorted(link for link in old if link[1] == k and link[0] not in silent)))
        old = frozenset(link for link in old if link[1] != k) | _from(links, k)
        silent -= {k}
    return found


@lru_cache(maxsize=256)
def _left(
    links: frozenset[Link], way: tuple[int, ...], old: frozenset[Link]
) -> tuple[frozenset[Link], frozenset[int]]:
    """The links that are old after a pass, and the layers that they lead to."""
    for k in way:
        old = frozenset(link for link in old if link[1] != k) | _from(links, k)
    return old, frozenset(k for _, k in old)


def _from(links: frozenset[Link], k: int) -> frozenset[Link]:
    return frozenset(link for link in links if link[0] == k)
