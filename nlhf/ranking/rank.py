"""From battles to a ranking: estimates, their errors, and what is decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from nlhf.errors import InputError
from nlhf.preferences.battles import Battles
from nlhf.preferences.reading import read_battles
from nlhf.preferences.reading.layouts import Values
from nlhf.ranking.bradley_terry import Ties
from nlhf.ranking.card import card
from nlhf.ranking.context import rank_context
from nlhf.ranking.draws import STAGES
from nlhf.ranking.lottery import robust_lottery
from nlhf.ranking.plan import Countdown, plan
from nlhf.ranking.results import Ranking, Robust
from nlhf.ranking.settings import Settings, check


def rank(
    battles: object,
    *,
    by: Sequence[str] | str = (),
    cluster: str | None = None,
    values: Values | None = None,
    each: float | None = None,
    bootstrap: int = 1000,
    ties: Ties = "half",
    smoothing: float = 0.0,
    intervals: Literal["bootstrap", "sandwich"] = "bootstrap",
    elo: bool = False,
    seed: int = 0,
    advance: Callable[[int], None] = lambda work: None,
) -> Ranking:
    """Rank items by battles, and report what the battles decide.

        import nlhf
        ranking = nlhf.rank("battles.csv", by="language")
        ranking.to_dataframe()

    Args:
        battles: a file, a pandas data frame, a list of records or a square array, see
            `nlhf.preferences.reading.read_battles`.
        by: columns whose values are contexts; by default the column "context", if there is one.
        cluster: the column whose values are resampled as a whole, such as a user's id.
        values: "counts", "rates" or "percent", for an ambiguous square table.
        each: number of battles behind each pair of a table of rates, if known.
        bootstrap: number of resamples, >= 0.
        ties: "half", "davidson" or "rao-kupper".
        smoothing: pseudo-votes for each side of every compared pair, >= 0.
        intervals: type of the scores' intervals: "bootstrap" or "sandwich".
        elo: whether to compute Elo ratings too; battles need an order.
        seed: seed of the resamples.
        advance: called with the amount of work done, see `nlhf.ranking.plan.Plan.work`.

    Raises:
        InputError: battles that cannot be read, no such column, or a setting out of range.
    """
    settings = Settings(bootstrap, ties, smoothing, intervals, elo, seed)
    check(settings)
    read = read_battles(battles, values)
    if each is not None:
        read = with_counts(read, each)
    by = [by] if isinstance(by, str) else list(by)
    if read.shares is not None and (by or cluster):
        raise InputError(f"{read.name}: a table of rates has no column {(*by, cluster)[0]!r}")
    if read.shares is not None and intervals == "sandwich":
        raise InputError(
            f"intervals=sandwich has no effect on {read.name}, which holds {read.layout} and no "
            "numbers of battles; give each (--each N) if they are known"
        )
    parts = plan(read, by)
    contexts = []
    for number, (name, part) in enumerate(zip(parts.names, parts.rows, strict=True)):
        rng = np.random.default_rng([seed, number])
        left = Countdown(STAGES * bootstrap, advance)
        contexts.append(rank_context(read, name, part, cluster, settings, rng, left.take))
        left.rest()
    robust = None
    if parts.pooled:
        tables = np.stack([read.preferences_of(part, smoothing) for part in parts.rows[:-1]])
        weights, value = robust_lottery(tables)
        robust = Robust(read.items, weights, value)
    return Ranking(tuple(contexts), robust, card(read, parts, contexts, cluster), bootstrap)


def with_counts(battles: Battles, each: float) -> Battles:
    """Treat the shares of a table of rates as the outcome of `each` battles per pair.

    Raises:
        InputError: not a table of rates, or not a positive number.
    """
    if battles.shares is None:
        raise InputError(f"{battles.name}: holds numbers of battles already; leave --each out")
    if not (np.isfinite(each) and each >= 1):
        raise InputError(f"each={each} must be a number of battles >= 1")
    i, j = np.triu_indices(len(battles.items), 1)
    known = ~np.isnan(battles.shares[i, j])
    i, j = i[known], j[known]
    # whole or half votes, as ties give
    won = np.round(2 * each * battles.shares[i, j]) / 2
    return replace(
        battles,
        layout=f"{battles.layout}, {each:g} battles a pair",
        first=i,
        second=j,
        won=won,
        lost=each - won,
        tied=np.zeros(len(i)),
        shares=None,
    )
