"""The log rows of a ranking: per item, verdict, pair, triad and tau, with numbers for names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from nlhf.ranking.results import ContextRanking, Ranking


@dataclass(frozen=True)
class ItemRecord:
    """An item in a context, see `nlhf.ranking.results.Item`; `item` counts in order of scores."""

    step: int
    context: int
    item: int
    bradley_terry: float
    low: float
    high: float
    standard_error: float
    rank_low: int
    rank_high: int
    lottery: float
    lottery_low: float
    lottery_high: float
    in_support: float
    first: float
    battles: float
    elo: float


@dataclass(frozen=True)
class PairRecord:
    """Item against other: win share, battles, and the probability that item is better."""

    step: int
    context: int
    item: int
    other: int
    share: float
    battles: float
    beats: float


@dataclass(frozen=True)
class TriadRecord:
    """Three items that each beat the next, with the probabilities of that, and of it on top."""

    step: int
    context: int
    first: int
    second: int
    third: int
    probability: float
    on_top: float


@dataclass(frozen=True)
class PathRecord:
    """The weight of an item in the regularised equilibrium for one tau, and its certificate."""

    step: int
    context: int
    item: int
    tau: float
    weight: float
    exploitability: float
    certificate: float


@dataclass(frozen=True)
class VerdictRecord:
    """The verdict on a context: its probability, and the numerical errors of the lottery."""

    step: int
    context: int
    probability: float
    battles: float
    ties: float
    exploitability: float
    certificate: float


TABLES: dict[str, type] = {
    "metrics": ItemRecord,
    "verdicts": VerdictRecord,
    "pairs": PairRecord,
    "triads": TriadRecord,
    "path": PathRecord,
}


def records(ranking: Ranking) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a ranking, each with its table's name."""
    for number, context in enumerate(ranking.contexts):
        yield from _of_context(number, context)


def names(ranking: Ranking) -> dict[str, Any]:
    """The names behind the numbers in the rows."""
    return {
        "contexts": [c.context for c in ranking.contexts],
        "items": [[item.name for item in c.items] for c in ranking.contexts],
    }


def without_pairs(summary: dict[str, Any]) -> dict[str, Any]:
    """Drop the lists of pairs from `Ranking.to_json`; the table of pairs has them by number.

    Items can be whole answers, and the names of all pairs could fill a hundred megabytes.
    """
    lists = {"unordered", "never_compared"}
    contexts = [{k: v for k, v in c.items() if k not in lists} for c in summary["contexts"]]
    return {**summary, "contexts": contexts}


def _of_context(number: int, c: ContextRanking) -> Iterator[tuple[str, Any]]:
    place = {item.name: n for n, item in enumerate(c.items)}
    columns = ItemRecord.__dataclass_fields__.keys() - {"step", "context", "item"}
    for n, item in enumerate(c.items):
        values = {name: getattr(item, name) for name in columns}
        yield "metrics", ItemRecord(step=0, context=number, item=n, **values)
    errors = (c.exploitability, c.certificate)
    yield "verdicts", VerdictRecord(0, number, c.probability, c.battles, c.ties, *errors)
    for i, j in combinations(range(len(c.items)), 2):
        numbers = float(c.P[i, j]), float(c.counts[i, j]), float(c.beats[i, j])
        yield "pairs", PairRecord(0, number, i, j, *numbers)
    for cycle in c.cycles:
        a, b, d = (place[name] for name in cycle.items)
        yield "triads", TriadRecord(0, number, a, b, d, cycle.probability, cycle.on_top)
    path = c.path
    for step, tau in enumerate(path.taus):
        f, bound = float(path.exploitability[step]), float(path.certificate[step])
        for n, weight in enumerate(path.policies[step].tolist()):
            yield "path", PathRecord(0, number, n, tau, weight, f, bound)
