"""The plan of a ranking: each context, all pooled if that is meaningful, and the run time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nlhf.preferences.battles import Battles
from nlhf.ranking.draws import LOTTERY_WORK, STAGES

POOLED = "pooled"
SHARED = 0.1
"""Share of the items that must occur in several contexts before contexts are pooled."""


@dataclass(frozen=True)
class Plan:
    """The tables to rank.

    Attributes:
        names: names of the contexts; the pooled table, if any, comes last.
        rows: indices of the battles of each table.
        pooled: whether the last table pools all contexts.
        sizes: numbers of items and compared pairs of each table.
        notes: remarks that a reader must know, one per line.
    """

    names: tuple[str, ...]
    rows: tuple[NDArray[np.int64], ...]
    pooled: bool
    sizes: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]

    def work(self, bootstrap: int) -> int:
        """Total work reported to `nlhf.rank`'s `advance`: STAGES per resample of each table."""
        return STAGES * bootstrap * len(self.names)

    def seconds(self, bootstrap: int) -> float:
        """Estimate the run time in seconds on one thread, within a factor of three."""
        return sum(_seconds(k, pairs, bootstrap) for k, pairs in self.sizes)


@dataclass
class Countdown:
    """Reports work, never more than the total, and the remainder at the end."""

    left: int
    advance: Callable[[int], None] = field(repr=False)

    def take(self, work: int) -> None:
        """Report that some work is done."""
        work = min(work, self.left)
        self.left -= work
        if work:
            self.advance(work)

    def rest(self) -> None:
        """Report that all work is done."""
        self.take(self.left)


def plan(battles: Battles, by: Sequence[str] = ()) -> Plan:
    """Split battles into contexts, and pool them if enough items occur in several contexts.

    Answers to different prompts have almost nothing in common. A table of all of them would compare
    items that were never meant to be compared.

    Raises:
        InputError: see `Battles.groups`.
    """
    names, group = battles.groups(by)
    rows = [np.flatnonzero(group == c) for c in range(len(names))]
    if len(names) == 1:
        return Plan(names, tuple(rows), False, _sizes(battles, rows), ())
    occurs = np.zeros(len(battles.items), dtype=np.int64)
    for part in rows:
        occurs[np.unique(np.concatenate([battles.first[part], battles.second[part]]))] += 1
    several, items = int((occurs > 1).sum()), int((occurs > 0).sum())
    if several < SHARED * items:
        have = "occurs" if several == 1 else "occur"
        note = f"contexts are not pooled: {several or 'none'} of {items:,} items {have} in several"
        return Plan(names, tuple(rows), False, _sizes(battles, rows), (note,))
    pooled = POOLED if POOLED not in names else f"{POOLED} (all contexts)"
    rows.append(np.arange(len(group)))
    return Plan((*names, pooled), tuple(rows), True, _sizes(battles, rows), ())


def _sizes(battles: Battles, rows: Sequence[NDArray[np.int64]]) -> tuple[tuple[int, int], ...]:
    if battles.shares is not None:
        return tuple((len(battles.items), 0) for _ in rows)
    found = []
    for part in rows:
        a, b = battles.first[part], battles.second[part]
        pairs = np.unique(np.minimum(a, b) * len(battles.items) + np.maximum(a, b))
        found.append((len(np.unique(np.concatenate([a, b]))), len(pairs)))
    return tuple(found)


def _seconds(k: int, pairs: int, bootstrap: int) -> float:
    """Time for scores (Newton's method or sweeps over pairs), ranges of ranks, and lotteries."""
    fits = 1e-8 * k**3 if k <= 150 else 1.6e-6 * pairs
    lotteries = 1e-8 * min(bootstrap * k**3, max(LOTTERY_WORK, k**3))
    return bootstrap * (fits + 4e-8 * k**2) + lotteries
