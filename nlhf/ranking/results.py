"""The results of a ranking as plain objects, as a data frame and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlhf.ranking.bradley_terry import Numbers
from nlhf.ranking.cycles import Misfit
from nlhf.ranking.verdicts import Decision


@dataclass(frozen=True)
class Item:
    """One item in one context; unknown numbers are NaN.

    Attributes:
        name: name of the item.
        bradley_terry: score, log-odds, with mean zero within each connected set of items.
        low, high: 95 % interval of the score.
        standard_error: standard error of the score, by the sandwich.
        rank: rank by the score, 1 is best.
        rank_low, rank_high: 95 % range of ranks, simultaneous for all items.
        lottery: weight in the maximal lottery.
        lottery_low, lottery_high: 95 % interval of that weight.
        in_support: share of resamples in whose maximal lottery the item has weight.
        first: share of resamples in which the item beats every other.
        battles: number of battles that it fought.
        elo: its Elo rating, NaN unless requested.
    """

    name: str
    bradley_terry: float
    low: float
    high: float
    standard_error: float
    rank: int
    rank_low: int
    rank_high: int
    lottery: float
    lottery_low: float
    lottery_high: float
    in_support: float
    first: float
    battles: float
    elo: float = float("nan")


@dataclass(frozen=True)
class Cycle:
    """Items of which each beats the next and the last beats the first, with the probability.

    `on_top` is the probability that they do and belong to the top cycle.
    """

    items: tuple[str, ...]
    probability: float
    on_top: float


@dataclass(frozen=True)
class Position:
    """The gain in log-odds from being shown first, with its 95 % interval."""

    log_odds: float
    low: float
    high: float


@dataclass(frozen=True)
class Path:
    """The regularised equilibrium along T values of tau.

    Attributes:
        taus: [T].
        policies: [T, K].
        exploitability: f of each policy, [T].
        certificate: f / tau, a bound on KL(policy || equilibrium), [T].
    """

    taus: tuple[float, ...]
    policies: Numbers
    exploitability: Numbers
    certificate: Numbers


@dataclass(frozen=True)
class ContextRanking:
    """The ranking of one context.

    Attributes:
        context: its name.
        battles, ties: number of battles and of ties; NaN where unknown.
        items: the items, best score first.
        verdict: see `nlhf.ranking.verdicts.Verdict`.
        winner: name, or None.
        probability: probability of the verdict; without one, of the most likely winner.
        top_cycle: items of the cycle in the verdict, or ().
        cycles: triads with the probability that they are cyclic, largest first.
        misfit: test of Bradley-Terry against one probability per pair, or None.
        exploitability: numerical exploitability of the lottery.
        certificate: largest numerical bound on KL(policy || equilibrium) on the tau path.
        path: equilibria along tau.
        position: effect of being shown first, or None if unknown.
        tie: the tie parameter eta of Davidson's or Rao and Kupper's model, or NaN.
        unordered: pairs that the votes do not order, as two names.
        never_compared: pairs without a battle, as two names.
        islands: sets of items that no comparison connects; one set if all are connected.
        unbounded: sets of items between which scores have no finite maximum, or ().
        further: number of further battles that would decide, see
            `nlhf.ranking.verdicts.Further`; None if decided.
        further_tried: the largest number tried.
        further_pairs: pairs to compare in these battles.
        clusters: number of clusters or ballots that were resampled as a whole, or None.
        resamples: number of resamples.
        lotteries: number of resamples whose lottery was solved, see `nlhf.ranking.draws`.
        smoothing: pseudo-votes per side behind scores and shares.
        P, counts, beats: win probabilities, numbers of battles, and the probability that row beats
            column, [K, K] in the order of `items`; `beats` is NaN without resampling.
    """

    context: str
    battles: float
    ties: float
    items: tuple[Item, ...]
    verdict: Decision
    winner: str | None
    probability: float
    top_cycle: tuple[str, ...]
    cycles: tuple[Cycle, ...]
    misfit: Misfit | None
    exploitability: float
    certificate: float
    path: Path
    position: Position | None
    tie: float
    unordered: tuple[tuple[str, str], ...]
    never_compared: tuple[tuple[str, str], ...]
    islands: tuple[tuple[str, ...], ...]
    unbounded: tuple[tuple[str, ...], ...]
    further: int | None
    further_tried: int
    further_pairs: tuple[tuple[str, str], ...]
    clusters: int | None
    resamples: int
    lotteries: int
    smoothing: float
    P: Numbers
    counts: Numbers
    beats: Numbers


@dataclass(frozen=True)
class Robust:
    """The lottery with the best worst-case context, and its loss in that context."""

    items: tuple[str, ...]
    lottery: Numbers
    value: float


@dataclass(frozen=True)
class Ranking:
    """The result of `rank`.

    Attributes:
        contexts: the contexts; if there are several, the pooled ranking is last.
        robust: the lottery for the worst context, or None with one context.
        card: facts about the data, one per key.
        bootstrap: number of resamples.
    """

    contexts: tuple[ContextRanking, ...]
    robust: Robust | None
    card: dict[str, Any]
    bootstrap: int

    def to_dataframe(self) -> Any:
        """Convert to a pandas data frame with one row per item and context.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        rows = [
            {"context": c.context, **asdict(item), "verdict": c.verdict}
            for c in self.contexts
            for item in c.items
        ]
        return pandas.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """Return what `rank --json` prints; unknown numbers are NaN."""
        summary = {"contexts": [context_json(c) for c in self.contexts], "card": self.card}
        if self.robust is not None:
            weights = dict(zip(self.robust.items, self.robust.lottery.tolist(), strict=True))
            summary["robust"] = {"lottery": weights, "value": self.robust.value}
        return summary

    def __repr__(self) -> str:
        """Summarise the verdicts."""
        parts = [f"{c.context}: {c.winner or c.verdict}" for c in self.contexts]
        return f"Ranking({'; '.join(parts)})"


def context_json(c: ContextRanking) -> dict[str, Any]:
    """Return one context as `rank --json` prints it."""
    names = {"context": c.context, "battles": c.battles, "ties": c.ties}
    further = {"battles": c.further, "tried": c.further_tried, "pairs": c.further_pairs}
    return names | {
        "items": [asdict(item) for item in c.items],
        "verdict": c.verdict,
        "winner": c.winner,
        "probability": c.probability,
        "top_cycle": list(c.top_cycle),
        "cycles": [asdict(cycle) for cycle in c.cycles],
        "exploitability": c.exploitability,
        "certificate": c.certificate,
        "misfit": None if c.misfit is None else asdict(c.misfit),
        "position": None if c.position is None else asdict(c.position),
        "tie": c.tie,
        "unordered": c.unordered,
        "never_compared": c.never_compared,
        "islands": c.islands,
        "unbounded": c.unbounded,
        "further_battles": None if c.verdict != "undecided" else further,
        "clusters": c.clusters,
        "resamples": c.resamples,
        "lottery_resamples": c.lotteries,
        "smoothing": c.smoothing,
        "tau_path": [
            {"tau": tau, "policy": p, "exploitability": f, "certificate": b}
            for tau, p, f, b in zip(
                c.path.taus,
                c.path.policies.tolist(),
                c.path.exploitability.tolist(),
                c.path.certificate.tolist(),
                strict=True,
            )
        ],
    }


def in_order(table: Numbers, order: NDArray[np.int64]) -> Numbers:
    """Reorder the rows and columns of a table."""
    return table[np.ix_(order, order)]
