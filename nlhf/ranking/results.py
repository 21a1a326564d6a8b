"""What a ranking says, as plain objects; as a data frame and as JSON."""

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
    """One item in one context; NaN where a number cannot be known.

    Attributes:
        name: whose.
        bradley_terry: log-odds, mean zero within what comparisons join.
        low, high: 95 % interval of it.
        standard_error: of it, by the sandwich.
        rank: by the score, 1 is best.
        rank_low, rank_high: ranks that hold for all items at once with 95 %.
        lottery: weight in the maximal lottery.
        lottery_low, lottery_high: 95 % interval of it.
        in_support: share of the resamples in whose maximal lottery it has weight.
        first: share of the resamples in which it beats each other item.
        battles: that it fought.
        elo: its Elo rating, NaN unless asked for.
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
    """Items of which each beats the next and the last the first, and how probably.

    `on_top` is the probability that they do and belong to the top cycle.
    """

    items: tuple[str, ...]
    probability: float
    on_top: float


@dataclass(frozen=True)
class Position:
    """What being shown first adds to the log-odds of winning, with its 95 % interval."""

    log_odds: float
    low: float
    high: float


@dataclass(frozen=True)
class Path:
    """The regularised equilibrium along tau; T of them.

    Attributes:
        taus: [T].
        policies: [T, K].
        exploitability: f of each, [T].
        certificate: f / tau, a bound of KL(policy || equilibrium), [T].
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
        battles, ties: their numbers; NaN where unknown.
        items: best score first.
        verdict: see `nlhf.ranking.verdicts.Verdict`.
        winner: name, or None.
        probability: of the verdict, or of the likeliest winner where there is none.
        top_cycle: items of the cycle that is claimed, or ().
        cycles: triads with the probability that they go round, largest first.
        misfit: test of Bradley-Terry against a probability a pair, or None.
        exploitability: of the lottery, numerical.
        certificate: largest bound of KL(policy || equilibrium) on the tau path, numerical.
        path: equilibria along tau.
        position: effect of being shown first, or None where it is not known.
        tie: the tie parameter eta of Davidson's or Rao and Kupper's model, or NaN.
        unordered: pairs that the votes do not order, both names.
        never_compared: pairs without a battle, both names.
        islands: sets of items that no comparison joins; one set where all are joined.
        unbounded: sets of items between which scores have no finite maximum, or ().
        further: battles that would decide, see `nlhf.ranking.verdicts.Further`; None if decided.
        further_tried: the largest number tried.
        further_pairs: pairs to compare for it.
        clusters: clusters or ballots that were resampled as a whole, or None.
        resamples: their number.
        lotteries: of how many of them the lottery was solved, see `nlhf.ranking.draws`.
        smoothing: pseudo-votes a side behind scores and shares.
        P, counts, beats: win probabilities, numbers of battles, and the probability that row beats
            column, [K, K] in the order of `items`; `beats` has NaN where nothing was resampled.
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
    """The lottery that does best in the worst context, and how much it loses there."""

    items: tuple[str, ...]
    lottery: Numbers
    value: float


@dataclass(frozen=True)
class Ranking:
    """What `rank` found.

    Attributes:
        contexts: each, and last all pooled where there are several.
        robust: the lottery for the worst context, or None with one context.
        card: what was read, a fact a key.
        bootstrap: number of resamples.
    """

    contexts: tuple[ContextRanking, ...]
    robust: Robust | None
    card: dict[str, Any]
    bootstrap: int

    def to_dataframe(self) -> Any:
        """Give a pandas data frame, a row an item and context.

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
        """Give what `rank --json` prints; NaN stands where a number cannot be known."""
        said = {"contexts": [context_json(c) for c in self.contexts], "card": self.card}
        if self.robust is not None:
            weights = dict(zip(self.robust.items, self.robust.lottery.tolist(), strict=True))
            said["robust"] = {"lottery": weights, "value": self.robust.value}
        return said

    def __repr__(self) -> str:
        """Say the verdicts."""
        parts = [f"{c.context}: {c.winner or c.verdict}" for c in self.contexts]
        return f"Ranking({'; '.join(parts)})"


def context_json(c: ContextRanking) -> dict[str, Any]:
    """Give one context as `rank --json` prints it."""
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
    """Rows and columns of a table in another order."""
    return table[np.ix_(order, order)]
