"""Estimates on the resamples of a context: scores, who beats whom, lotteries, top cycles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nlhf.ranking.bradley_terry import Fit, Numbers, fit
from nlhf.ranking.cycles import Misfit, misfit
from nlhf.ranking.lottery import maximal_lotteries, tops_of_wins
from nlhf.ranking.sampling import Sample, resample, share_table, win_table
from nlhf.ranking.settings import Settings

STAGES = 3
"""Number of stages per resample: scores, test of scores, lottery."""
LOTTERY_WORK = 2.5e9
"""Bound on the sum of m^3 over resampled lotteries, where m is the size of the top cycle."""
FEWEST = 20
"""Smallest number of lotteries that gives intervals."""
_NUMBERS = 2**23


@dataclass(frozen=True)
class Draws:
    """The B resamples of a context with K items and M compared pairs.

    Attributes:
        scores: [B, K].
        above: whether i beats j in each resample, followed by whether j beats i, [2 M, B].
        beats: share of resamples in which row beats column, [K, K].
        first: share in which an item beats every other, [K].
        tops: who is in the top cycle, [B, K].
        lotteries: those of the first L <= B resamples, as many as LOTTERY_WORK allows, [L, K].
        misfit: the test of scores.
    """

    scores: Numbers
    above: NDArray[np.bool_]
    beats: Numbers
    first: Numbers
    tops: NDArray[np.bool_]
    lotteries: Numbers
    misfit: Misfit


def draw(
    sample: Sample,
    fitted: Fit,
    pseudo: float,
    settings: Settings,
    rng: np.random.Generator,
    islands: int,
    advance: Callable[[int], None],
) -> Draws:
    """Resample the votes, and repeat the whole estimation on each resample.

    Args:
        sample: the votes.
        fitted: their scores.
        pseudo: pseudo-votes per side behind the scores.
        settings: how to rank.
        rng: random generator of the resamples.
        islands: sets of items that no comparison connects.
        advance: called with the number of resamples done, up to STAGES times for each.
    """
    tables = resample(sample, settings.bootstrap, rng)
    won, lost, tied = tables
    some = pseudo * (sample.total > 0)
    halves = settings.ties == "half"
    fits = fit(
        sample.cells, won + some, lost + some, tied, settings.ties, start=fitted, advance=advance
    )
    above, first, tops = _who_beats_whom(sample, tables, settings.smoothing)
    plain = fitted
    if not halves or pseudo:
        plain = fit(sample.cells, sample.won, sample.lost, sample.tied)
    plain_fits = fits
    if not halves and sample.units is not None:
        plain_fits = fit(sample.cells, won, lost, tied, start=plain)
    test = misfit(sample, plain, tables, plain_fits, rng, islands, advance)
    lotteries = _lotteries(sample, tables, tops, settings.smoothing, advance)
    m = len(sample.cells.i)
    beats = np.zeros((sample.cells.k, sample.cells.k))
    share = above.mean(-1)
    beats[sample.cells.i, sample.cells.j] = share[:m]
    beats[sample.cells.j, sample.cells.i] = share[m:]
    return Draws(fits.scores, above, beats, first, tops, lotteries, test)


def _pieces(total: int, size: int) -> Iterator[slice]:
    """Slices of resamples, of `size` numbers each, that fit in memory."""
    step = max(1, _NUMBERS // max(size, 1))
    return (slice(at, min(at + step, total)) for at in range(0, total, step))


def _who_beats_whom(
    sample: Sample, tables: tuple[Numbers, Numbers, Numbers], smoothing: float
) -> tuple[NDArray[np.bool_], Numbers, NDArray[np.bool_]]:
    """`above`, `first` and `tops` of Draws, without a full table of all pairs."""
    cells, b = sample.cells, len(tables[0])
    m, k = len(cells.i), cells.k
    one = np.ones(m)
    of_i = sparse.csr_matrix((one, (cells.i, np.arange(m))), shape=(k, m))
    of_j = sparse.csr_matrix((one, (cells.j, np.arange(m))), shape=(k, m))
    above, first = np.zeros((2 * m, b), dtype=bool), np.zeros(k)
    tops = np.zeros((b, k), dtype=bool)
    for part in _pieces(b, m):
        won, lost, tied = (each[part].T for each in tables)
        i_won, j_won = won + tied / 2, lost + tied / 2
        total = i_won + j_won
        compared = total > 0
        share = (i_won + smoothing * compared) / np.maximum(total + 2 * smoothing, 1e-300)
        up, down = compared & (share > 0.5), compared & (1 - share > 0.5)
        above[:m, part], above[m:, part] = up, down
        beaten = of_i @ up.astype(float) + of_j @ down.astype(float)
        lost_to = of_i @ down.astype(float) + of_j @ up.astype(float)
        first += (beaten == k - 1).sum(-1)
        tops[part] = tops_of_wins((beaten + (k - 1 - beaten - lost_to) / 2).T)
    return above, first / b, tops


def _lotteries(
    sample: Sample,
    tables: tuple[Numbers, Numbers, Numbers],
    tops: NDArray[np.bool_],
    smoothing: float,
    advance: Callable[[int], None],
) -> Numbers:
    k = sample.cells.k
    count = affordable(tops.sum(-1))
    parts = [np.zeros((0, k))]
    for part in _pieces(count, 8 * k * k):
        won, lost, tied = (each[part] for each in tables)
        wins = win_table(sample.cells, won, lost, tied)
        parts.append(maximal_lotteries(share_table(wins, smoothing)))
        advance(part.stop - part.start)
    return np.concatenate(parts)


def affordable(sizes: NDArray[np.int64]) -> int:
    """Number of resampled lotteries that LOTTERY_WORK allows, given the sizes of top cycles."""
    work = np.cumsum(np.where(sizes > 1, sizes.astype(float) ** 3, 0.0))
    count = int((work <= LOTTERY_WORK).sum())
    return count if count >= min(FEWEST, len(sizes)) else 0
