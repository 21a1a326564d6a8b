"""Cycles: whether scores can explain the votes at all, and which triads are cyclic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, xlogy

from nlhf.ranking.bradley_terry import Cells, Fit, Numbers, fit
from nlhf.ranking.sampling import Sample

LEAST = 0.05
"""Smallest probability with which a triad is reported."""
_CHUNK = 4096


@dataclass(frozen=True)
class Misfit:
    """The likelihood-ratio test of Bradley-Terry against one win probability per pair.

    Attributes:
        statistic: 2 (saturated log-likelihood - Bradley-Terry log-likelihood).
        freedom: compared pairs minus free scores.
        p: probability of a misfit at least as large if scores do explain the votes, by simulation.
    """

    statistic: float
    freedom: int
    p: float


def likelihood_ratio(wins: Numbers, battles: Numbers, fitted: Numbers) -> Numbers:
    """2 sum over cells of y log(y/n / p) + (n - y) log((n - y)/n / (1 - p)), [...].

    Args:
        wins: wins of i with ties as halves, y, [..., M].
        battles: n, [..., M].
        fitted: p, [..., M].
    """
    lost = battles - wins
    share = wins / np.maximum(battles, 1e-300)
    own = xlogy(wins, share) + xlogy(lost, 1 - share)
    model = xlogy(wins, np.maximum(fitted, 1e-300)) + xlogy(lost, np.maximum(1 - fitted, 1e-300))
    return 2 * (own - model).sum(-1)


def misfit(
    sample: Sample,
    fitted: Fit,
    draws: tuple[Numbers, Numbers, Numbers],
    draw_fits: Fit,
    rng: np.random.Generator,
    islands: int = 1,
    advance: Callable[[int], None] = lambda tables: None,
) -> Misfit:
    """Test whether scores explain the votes (ties as halves).

    The null distribution is simulated. Without clusters, votes are drawn from the fitted scores
    with the ties kept. With clusters, the deviations of the bootstrap from the estimate are used,
    since votes of a cluster are dependent.

    Args:
        sample: the votes.
        fitted: their scores, ties as halves.
        draws, draw_fits: the bootstrap tables [B, M], and their scores.
        rng: random generator of the simulation.
        islands: sets of items that no comparison connects.
        advance: called with the number of simulated tables done.
    """
    cells, n = sample.cells, sample.total
    y = sample.won + sample.tied / 2
    p = expit(_difference(cells, fitted.scores))
    statistic = float(likelihood_ratio(y, n, p))
    freedom = max(int((n > 0).sum()) - (cells.k - islands), 0)
    b = len(draws[0])
    if not freedom or not b:
        return Misfit(statistic, freedom, 1.0 if not freedom else np.nan)
    if sample.units is not None:
        total = np.maximum(draws[0] + draws[1] + draws[2], 1e-300)
        share = (draws[0] + draws[2] / 2) / total
        here = y / np.maximum(n, 1e-300) - p
        shift = share - expit(_difference(cells, draw_fits.scores)) - here
        scale = n / np.maximum(p * (1 - p), 1e-12)
        as_far = (scale * shift**2).sum(-1) >= (scale * here**2).sum()
        return Misfit(statistic, freedom, float((1 + as_far.sum()) / (1 + b)))
    decided = np.round(n - sample.tied)
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.where(decided > 0, (n * p - sample.tied / 2) / (n - sample.tied), 0.5)
    won = rng.binomial(decided.astype(np.int64), np.clip(own, 0, 1), size=(b, len(n))).astype(float)
    tied = np.broadcast_to(sample.tied, won.shape)
    again = fit(cells, won, decided - won, tied, start=fitted, advance=advance)
    simulated = likelihood_ratio(
        won + tied / 2, decided + tied, expit(_difference(cells, again.scores))
    )
    as_far = simulated >= statistic - 1e-9
    return Misfit(statistic, freedom, float((1 + as_far.sum()) / (1 + b)))


def _difference(cells: Cells, scores: Numbers) -> Numbers:
    return scores[..., cells.i] - scores[..., cells.j]


@dataclass(frozen=True)
class Triads:
    """Sets of three items that are cyclic in some resamples.

    Attributes:
        members: i beats j beats k beats i, i the smallest, [T, 3].
        probability: share of resamples in which they are cyclic, [T], largest first.
        on_top: share in which they are cyclic and belong to the top cycle, [T].
    """

    members: NDArray[np.int64]
    probability: Numbers
    on_top: Numbers


def triads(
    cells: Cells, above: NDArray[np.bool_], tops: NDArray[np.bool_], least: float = LEAST
) -> Triads:
    """Count the resamples in which each triad is a cycle, separately for each direction.

    Args:
        cells: the compared pairs, M of them.
        above: whether i beats j, followed by whether j beats i, [2 M, B].
        tops: who is in the top cycle, [B, K].
        least: the smallest probability to report.
    """
    m = len(cells.i)
    edge = np.full((cells.k, cells.k), -1)
    edge[cells.i, cells.j], edge[cells.j, cells.i] = np.arange(m), np.arange(m, 2 * m)
    often = np.zeros((cells.k, cells.k), dtype=bool)
    share = above.mean(-1) >= least
    often[cells.i, cells.j], often[cells.j, cells.i] = share[:m], share[m:]
    i, j, k = _candidates(often)
    whole, top = np.zeros(len(i)), np.zeros(len(i))
    crowned = np.ascontiguousarray(tops.T)
    for start in range(0, len(i), _CHUNK):
        part = slice(start, start + _CHUNK)
        a, b, c = i[part], j[part], k[part]
        round_ = above[edge[a, b]] & above[edge[b, c]] & above[edge[c, a]]
        whole[part] = round_.mean(-1)
        top[part] = (round_ & crowned[a] & crowned[b] & crowned[c]).mean(-1)
    order = np.argsort(-whole, kind="stable")
    order = order[whole[order] >= least]
    return Triads(np.stack([i, j, k], 1)[order], whole[order], top[order])


def _candidates(
    often: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All i < j, k with i -> j -> k -> i along edges that occur often enough."""
    found = []
    for i in range(len(often)):
        later = np.arange(len(often)) > i
        ok = (often[i] & later)[:, None] & often & (often[:, i] & later)[None, :]
        j, k = np.nonzero(ok)
        found.append(np.stack([np.full(len(j), i), j, k]))
    i, j, k = np.concatenate(found, 1) if found else np.zeros((3, 0), dtype=np.int64)
    return i, j, k
