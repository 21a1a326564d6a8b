"""Estimates for the items of one context: scores, probabilities, lotteries and their errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nlhf.preferences.battles import Battles
from nlhf.ranking.bradley_terry import Cells, Fit, Numbers, fit, islands, unbounded
from nlhf.ranking.draws import Draws, draw
from nlhf.ranking.errors_of_scores import percentiles, rank_ranges, sandwich
from nlhf.ranking.lottery import maximal_lotteries
from nlhf.ranking.sampling import Sample, make_sample, share_table, win_table
from nlhf.ranking.settings import Settings
from nlhf.ranking.verdicts import FEW, sure

UNSEPARATED = 0.5
"""Pseudo-votes per side where the likelihood has no finite maximum."""
NORMAL = 1.959963984540054
"""Half-width of a 95 % interval of a normal distribution, in standard errors."""


@dataclass(frozen=True)
class Estimates:
    """Estimates of the K items that occur in a context, in the order of the whole file.

    Attributes:
        items: indices of the items, [K].
        sample: their battles, by pair.
        counted: whether there are battles, rather than win probabilities only.
        wins: wins of row against column, ties as half a win, [K, K].
        P: win probabilities, [K, K].
        apart: sets of items that no comparison connects.
        separated: sets of items between which scores have no finite maximum.
        smoothing: pseudo-votes per side behind the scores.
        fitted: the Bradley-Terry model.
        lottery: the maximal lottery, [K].
        drawn: the resamples; None if there are none.
    """

    items: NDArray[np.int64]
    sample: Sample
    counted: bool
    wins: Numbers
    P: Numbers
    apart: list[list[int]]
    separated: list[list[int]]
    smoothing: float
    fitted: Fit
    lottery: Numbers
    drawn: Draws | None

    @property
    def counts(self) -> Numbers:
        """Battles of each pair, [K, K]."""
        return self.wins + self.wins.T

    @property
    def fought(self) -> Numbers:
        """Battles of each item, [K]; NaN where unknown."""
        return self.counts.sum(1) if self.counted else np.full(len(self.wins), np.nan)

    @property
    def beats(self) -> Numbers:
        """The probability that row is better than column, [K, K]; NaN without resamples."""
        return np.full(self.P.shape, np.nan) if self.drawn is None else self.drawn.beats

    @property
    def ordered(self) -> NDArray[np.bool_]:
        """Whether the votes order a pair, [K, K]."""
        if self.drawn is None:
            return np.zeros(self.P.shape, bool)
        known = sure(self.wins, np.nan_to_num(self.beats))
        return known | known.T


def estimate(
    battles: Battles,
    rows: NDArray[np.int64],
    cluster: str | None,
    settings: Settings,
    rng: np.random.Generator,
    advance: Callable[[int], None],
) -> Estimates:
    """Compute the estimates for items in some rows of battles; see `nlhf.rank` and `draw`."""
    counted = battles.shares is None
    if battles.shares is not None:
        items = np.arange(len(battles.items))
        sample = _of_shares(battles.shares)
    else:
        items = np.unique(np.concatenate([battles.first[rows], battles.second[rows]]))
        sample = make_sample(battles, rows, items, cluster)
    wins = win_table(sample.cells, sample.won, sample.lost, sample.tied)
    apart, separated = islands(wins), unbounded(wins)
    smoothing = settings.smoothing or (UNSEPARATED if separated else 0.0)
    fitted = _fit(sample, smoothing, settings)
    P = share_table(wins, settings.smoothing)
    lottery = maximal_lotteries(P[None])[0]
    drawn = None
    if settings.bootstrap and counted and sample.total.sum():
        drawn = draw(sample, fitted, smoothing, settings, rng, len(apart), advance)
    return Estimates(
        items, sample, counted, wins, P, apart, separated, smoothing, fitted, lottery, drawn
    )


def _of_shares(shares: Numbers) -> Sample:
    """A sample with one battle per known pair, for the estimates."""
    i, j = np.nonzero(np.triu(~np.isnan(shares), 1))
    won = shares[i, j]
    return Sample(Cells(len(shares), i, j), won, 1 - won, np.zeros(len(i)))


def _fit(sample: Sample, pseudo: float, settings: Settings) -> Fit:
    some = pseudo * (sample.total > 0)
    return fit(sample.cells, sample.won + some, sample.lost + some, sample.tied, settings.ties)


def scores_of(estimates: Estimates, settings: Settings) -> dict[str, Numbers]:
    """Scores, errors, intervals and ranges of ranks, [K] each; NaN where unknown."""
    wins, fitted, drawn = estimates.wins, estimates.fitted, estimates.drawn
    k = len(wins)
    label = np.zeros(k)
    for number, part in enumerate(estimates.apart):
        label[part] = number
    joined = label[:, None] == label[None]
    score = fitted.scores - (joined @ fitted.scores) / joined.sum(-1)
    error = np.full(k, np.nan)
    if drawn is not None:
        covariance = sandwich(estimates.sample, fitted, settings.ties)[:k, :k]
        error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    low, high = score - NORMAL * error, score + NORMAL * error
    rank_low, rank_high = np.ones(k), np.full(k, k)
    if drawn is not None:
        draws = drawn.scores - drawn.scores @ (joined / joined.sum(-1))
        if settings.intervals == "bootstrap":
            low, high = percentiles(draws)
        rank_low, rank_high = rank_ranges(score, draws, joined)
    for part in estimates.separated:
        outside = np.setdiff1d(np.arange(k), part)
        if not len(outside) or not joined[part][:, outside].any():
            continue
        above, below = wins[part][:, outside].sum(), wins[outside][:, part].sum()
        # few votes give no bound on the other side either
        if not below:
            high[part] = np.inf
            low[part] = low[part] if above >= FEW else -np.inf
        if not above:
            low[part] = -np.inf
            high[part] = high[part] if below >= FEW else np.inf
    alone = (wins + wins.T).sum(-1) == 0
    for each in (score, error, low, high):
        each[alone] = np.nan
    return {
        "score": score, "error": error, "low": low, "high": high,
        "rank_low": rank_low, "rank_high": rank_high,
    }  # fmt: skip
