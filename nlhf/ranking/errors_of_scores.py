"""Errors of scores: sandwich covariance, bootstrap intervals, simultaneous ranges of ranks."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from nlhf.ranking.bradley_terry import (
    RIDGE,
    Cells,
    Fit,
    Numbers,
    Ties,
    cell_derivatives,
    derivatives,
)
from nlhf.ranking.sampling import Sample

_AT_ONCE = 2**24


def sandwich(sample: Sample, fitted: Fit, ties: Ties = "half") -> Numbers:
    """Covariance H^-1 G H^-1 of the scores, followed by tie and position parameters, [S, S].

    H is the negative Hessian of the log-likelihood. G is the sum of outer products of gradients
    over units, which are clusters, ballots or single battles. There is no small-sample correction.

    Source: White 1982 (Econometrica 50); Liang and Zeger 1986 (Biometrika 73) for clusters.
    """
    cells = sample.cells
    theta = _theta(cells, fitted, ties)
    w, n, t = sample.won[None], sample.lost[None], sample.tied[None]
    _, _, curvature = derivatives(cells, theta[None], w, n, t, ties)
    slopes = _slopes(cells, theta, ties)
    if sample.units is None or sample.times is None:
        counts = np.concatenate([sample.won, sample.lost, sample.tied])
        G = slopes.T @ sparse.diags_array(counts) @ slopes
    else:
        of_units = sample.units @ slopes
        G = of_units.T @ sparse.diags_array(sample.times) @ of_units
    H = curvature[0] - RIDGE * np.eye(len(theta))
    inverse = np.linalg.pinv(H, rcond=1e-11, hermitian=True)
    return inverse @ G.toarray() @ inverse


def _theta(cells: Cells, fitted: Fit, ties: Ties) -> Numbers:
    extra = [fitted.tie] if ties != "half" else []
    extra += [fitted.position] if cells.sign is not None else []
    return np.append(fitted.scores, extra)


def _slopes(cells: Cells, theta: Numbers, ties: Ties) -> sparse.csr_matrix:
    """The gradient of the log-likelihood of one win, loss or tie in each cell, [3 M, S]."""
    k, m = cells.k, len(cells.i)
    d = theta[cells.i] - theta[cells.j]
    if cells.sign is not None:
        d = d + theta[-1] * cells.sign
    eta = theta[k] if ties != "half" else None
    by_item, one, none = cells.incidence, np.ones(m), np.zeros(m)
    parts = []
    for w, n, t in ((one, none, none), (none, one, none), (none, none, one)):
        _, g, _, ge, _, _ = cell_derivatives(d, eta, w, n, t, ties)
        columns = [sparse.diags_array(g) @ by_item]
        columns += [ge[:, None]] if eta is not None else []
        columns += [(g * cells.sign)[:, None]] if cells.sign is not None else []
        parts.append(sparse.hstack(columns))
    return sparse.csr_matrix(sparse.vstack(parts))


def percentiles(draws: Numbers, level: float = 0.95) -> tuple[Numbers, Numbers]:
    """Lower and upper bounds of the central `level` of draws along the first axis."""
    rest = (1 - level) / 2
    low, high = np.quantile(draws, [rest, 1 - rest], axis=0)
    return low, high


def rank_ranges(
    scores: Numbers, draws: Numbers, joined: Numbers, level: float = 0.95
) -> tuple[Numbers, Numbers]:
    """Ranges of ranks that hold for all items simultaneously with probability `level`.

    Let se_ij be the bootstrap error of r_i - r_j, and c the quantile of the largest
    |r*_i - r*_j - (r_i - r_j)| / se_ij over all pairs. j is surely above i if r_j - r_i > c se_ij.
    Ranks go from 1 + the number surely above to K - the number surely below.

    Args:
        scores: [K].
        draws: [B, K].
        joined: whether a chain of comparisons connects two items, [K, K]; other pairs are never
            sure.
        level: in (0, 1).

    Source: Mogstad, Romano, Shaikh, Wilhelm 2024 (Rev. Econ. Stud. 91), section 3.
    """
    k, b = len(scores), len(draws)
    off = draws - scores
    # var(r*_i - r*_j) about the estimate
    second = off.T @ off / b
    variance = np.diag(second)[:, None] + np.diag(second)[None] - 2 * second
    usable = joined.astype(bool) & (variance > 1e-18) & ~np.eye(k, dtype=bool)
    error = np.sqrt(np.where(usable, variance, 1.0))
    largest = np.zeros(b)
    step = max(1, _AT_ONCE // (k * k))
    for start in range(0, b, step):
        part = off[start : start + step]
        ratio = np.abs(part[:, :, None] - part[:, None, :]) / error
        largest[start : start + step] = np.where(usable, ratio, 0.0).max((1, 2))
    c = np.quantile(largest, level)
    above = usable & (scores[None, :] - scores[:, None] > c * error)
    low, high = 1 + above.sum(1), k - above.sum(0)
    return low, high
