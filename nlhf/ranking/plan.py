"""What is ranked: each context, and all pooled where that has a meaning; how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nlhf.preferences.battles import Battles
from nlhf.ranking.draws import LOTTERY_WORK, STAGES

POOLED = "pooled"
SHARED = 0.1
"""Share of the items that must occur in several contexts for these to be pooled."""


@dataclass(frozen=True)
class Plan:
    """The tables to rank.

    Attributes:
        names: of the contexts, and last of all pooled.
        rows: which battles belong to each.
        pooled: whether the last is all pooled.
        sizes: items and compared pairs of each.
        notes: what a reader must know, a line each.
    """

    names: tuple[str, ...]
    rows: tuple[NDArray[np.int64], ...]
    pooled: bool
    sizes: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]

    def work(self, bootstrap: int) -> int:
        """Give what `nlhf.rank` tells `advance` in all: STAGES of each resample of each table."""
        return STAGES * bootstrap * len(self.names)

    def seconds(self, bootstrap: int) -> float:
        """Guess how long one thread takes; right within a factor of three."""
        return sum(_seconds(k, pairs, bootstrap) for k, pairs in self.sizes)


@dataclass
class Countdown:
    """Passes work on, never more than there was, and the rest of it in the end."""

    left: int
    advance: Callable[[int], None] = field(repr=False)

    def take(self, work: int) -> None:
        """Tell that some work is done."""
        work = min(work, self.left)
        self.left -= work
        if work:
            self.advance(work)

    def rest(self) -> None:
        """Tell that all of it is."""
        self.take(self.left)


def plan(battles: Battles, by: Sequence[str] = ()) -> Plan:
    """Split battles into contexts, and pool these where enough items occur in several.

    Answers to different prompts have next to nothing in common: a table of all of them would
    compare what was never meant to be compared.

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
    """Scores by Newton's method or by sweeps over pairs, ranges of ranks, and lotteries."""
    fits = 1e-8 * k**3 if k <= 150 else 1.6e-6 * pairs
    lotteries = 1e-8 * min(bootstrap * k**3, max(LOTTERY_WORK, k**3))
    return bootstrap * (fits + 4e-8 * k**2) + lotteries
