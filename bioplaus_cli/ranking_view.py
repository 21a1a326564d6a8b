"""Build the content of the report of `rank` from a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bridge.report.drawings import Edge, Interval
from bridge.report.ranking import RankingView
from nlhf.ranking.words import in_words, verdict_line

if TYPE_CHECKING:
    from nlhf.ranking.results import ContextRanking

_LINES = 8
_CYCLES = 20
_MEMBERS = 10


def view_of(c: ContextRanking) -> RankingView:
    """Choose what a page shows for a context."""
    scores = [
        Interval(i.name, i.bradley_terry, i.low, i.high, f"{i.rank_low}\u2013{i.rank_high}")
        for i in c.items
    ]
    lottery = [
        Interval(i.name, i.lottery, i.lottery_low, i.lottery_high, f"{i.in_support:.1%}")
        for i in sorted(c.items, key=lambda i: (-i.lottery, -i.in_support))
        if i.lottery > 0 or i.lottery_high > 0 or i.in_support >= 0.01
    ]
    names = [i.name for i in c.items]
    most = np.argsort(-c.path.policies.max(0), kind="stable")[:_LINES]
    members, edges = _graph(c)
    return RankingView(
        name=c.context,
        verdict=verdict_line(c),
        words=in_words(c),
        scores=scores,
        lottery=lottery,
        names=names,
        shares=c.P,
        counts=c.counts if c.battles == c.battles else np.full(c.P.shape, np.nan),
        taus=c.path.taus,
        paths={names[i]: c.path.policies[:, i].tolist() for i in most},
        members=members,
        edges=edges,
        cycles=[
            (" > ".join((*cycle.items, cycle.items[0])), cycle.probability, cycle.on_top)
            for cycle in c.cycles[:_CYCLES]
        ],
    )


def _graph(c: ContextRanking) -> tuple[Sequence[str], Sequence[Edge]]:
    """The items of the likeliest cycles, and who beats whom among them."""
    members: list[str] = []
    for cycle in c.cycles:
        new = [name for name in cycle.items if name not in members]
        if len(members) + len(new) > _MEMBERS:
            break
        members += new
    place = {item.name: n for n, item in enumerate(c.items)}
    edges = []
    for a, name in enumerate(members):
        for b, other in enumerate(members):
            p = float(c.beats[place[name], place[other]])
            if a != b and p >= 0.5:
                edges.append(Edge(a, b, p))
    return members, edges
