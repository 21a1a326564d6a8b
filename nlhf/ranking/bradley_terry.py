"""Bradley-Terry scores by maximum likelihood, for many tables at once, with three tie models.

Tables are flattened to M cells, the unordered pairs (i < j). With a covariate for position each
pair has two cells, one for each item shown first. Each cell has wins of i, losses and ties,
[..., M].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

Numbers = NDArray[np.float64]
Ties = Literal["half", "davidson", "rao-kupper"]
RIDGE = 1e-8
"""Keeps scores finite where a resample has no finite ones; changes others by less than 1e-8."""
_STEP = 3.0
_LARGE = 150
"""Number of items from which tables share one curvature; individual ones would take minutes."""
_SWEEPS, _FIRST = 60, 12
_CLOSE = 1e-14
"""Largest remaining gain of a sweep, which is twice the missing log-likelihood."""
_CHUNK = 64
"""Number of tables fitted together, so that the data of Newton's steps stays in the cache."""


@dataclass(frozen=True)
class Cells:
    """The items that each cell compares: i against j, of K; `sign` is +1 where i was shown first.

    `sign` is None without a covariate for position, and 0 where the position is unknown.
    """

    k: int
    i: NDArray[np.int64]
    j: NDArray[np.int64]
    sign: Numbers | None = None

    @cached_property
    def incidence(self) -> sparse.csr_matrix:
        """+1 for i and -1 for j of each cell, [M, K]."""
        rows, one = np.arange(len(self.i)), np.ones(len(self.i))
        entries, where = np.concatenate([one, -one]), np.concatenate([self.i, self.j])
        return sparse.csr_matrix((entries, (np.tile(rows, 2), where)), shape=(len(rows), self.k))

    @cached_property
    def transposed(self) -> sparse.csr_matrix:
        """The transposed incidence, [K, M]."""
        return sparse.csr_matrix(self.incidence.T)

    def differences(self, scores: Numbers) -> Numbers:
        """Score differences of i and j, [B, K or more] -> [B, M]."""
        return np.take(scores, self.i, 1) - np.take(scores, self.j, 1)

    def of_items(self, cells: Numbers) -> Numbers:
        """Sum over cells for each item, +1 for i and -1 for j, [B, M] -> [B, K]."""
        return (self.transposed @ cells.T).T


@dataclass(frozen=True)
class Fit:
    """Fitted scores and other parameters of each table.

    Attributes:
        scores: r, log-odds, mean zero, [..., K].
        tie: eta of Davidson's or Rao and Kupper's model, [...]; zero for "half".
        position: gamma, the gain in log-odds from being shown first, [...]; zero without covariate.
        log_likelihood: the maximum, [...].
        steps: number of Newton steps.
    """

    scores: Numbers
    tie: Numbers
    position: Numbers
    log_likelihood: Numbers
    steps: int


def fit(
    cells: Cells,
    won: Numbers,
    lost: Numbers,
    tied: Numbers,
    ties: Ties = "half",
    start: Fit | None = None,
    iterations: int = 100,
    advance: Callable[[int], None] = lambda tables: None,
) -> Fit:
    """Maximise sum over cells of log-likelihood(r_i - r_j + gamma) - RIDGE ||r||^2 / 2.

    "half" counts a tie as half a win for each. With d the log-odds and eta the tie parameter,
    Davidson's model is P(win) : P(loss) : P(tie) = e^(d/2) : e^(-d/2) : e^eta. Rao and Kupper's
    model is P(win) = sigmoid(d - eta), P(loss) = sigmoid(-d - eta), eta > 0.

    Args:
        cells: the M cells.
        won, lost, tied: [..., M].
        ties: the model of ties.
        start: starting point, the fit of a single table.
        iterations: maximum number of Newton steps.
        advance: called with the number of tables done.

    Source: Bradley and Terry 1952 (Biometrika 39); Davidson 1970 (JASA 65); Rao and Kupper 1967
        (JASA 62).
    """
    shape = won.shape[:-1]
    w, n, t = (np.ascontiguousarray(a.reshape(-1, a.shape[-1])) for a in (won, lost, tied))
    parts = []
    for at in range(0, max(len(w), 1), _CHUNK):
        part = slice(at, at + _CHUNK)
        parts.append(_fit(cells, w[part], n[part], t[part], ties, start, iterations))
        advance(len(w[part]))
    theta, value, steps = (np.concatenate(column) for column in zip(*parts, strict=True))
    k = cells.k
    scores = theta[:, :k] - theta[:, :k].mean(-1, keepdims=True)
    zero = np.zeros(len(w))
    tie = theta[:, k] if ties != "half" else zero
    place = theta[:, -1] if cells.sign is not None else zero
    return Fit(
        scores.reshape(*shape, k),
        tie.reshape(shape),
        place.reshape(shape),
        value.reshape(shape),
        int(steps.max()),
    )


def _fit(
    cells: Cells,
    w: Numbers,
    n: Numbers,
    t: Numbers,
    ties: Ties,
    start: Fit | None,
    iterations: int,
) -> tuple[Numbers, Numbers, Numbers]:
    """Fit some tables: parameters [B, S], log-likelihoods [B], and the number of steps [1]."""
    k, batch = cells.k, len(w)
    has_tie, has_place = ties != "half", cells.sign is not None
    size = k + has_tie + has_place
    theta = np.zeros((batch, size))
    if has_tie:
        theta[:, k] = 0.1
    if start is not None:
        theta[:, :k] = start.scores
        theta[:, k : k + 1] = start.tie if has_tie else theta[:, k : k + 1]
        if has_place:
            theta[:, -1] = start.position
    live, steps, value = np.arange(batch), 0, np.zeros(batch)
    if start is not None and k > _LARGE and size == k:
        value, done = _sweep(cells, theta, w, n, t)
        live = np.flatnonzero(~done)
        if not len(live):
            return theta, value, np.array([float(_SWEEPS)])
    for steps in range(1, iterations + 1):  # noqa: B007
        part = theta[live]
        value[live], slope, curvature = derivatives(cells, part, w[live], n[live], t[live], ties)
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        # far from the maximum Newton overshoots
        step *= np.minimum(1.0, _STEP / np.abs(step).max(-1, keepdims=True).clip(1e-300))
        part = part + step
        if has_tie:
            floor = 1e-9 if ties == "rao-kupper" else -40.0
            part[:, k] = np.maximum(part[:, k], floor)
        theta[live] = part
        # the gain that remains; after this step the error is squared
        live = live[(slope * step).sum(-1) > 1e-13]
        if not len(live):
            break
    return theta, value, np.array([float(steps)])


def _sweep(
    cells: Cells, theta: Numbers, w: Numbers, n: Numbers, t: Numbers
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Update scores in place by each table's gradient and the curvature of the mean table.

    Ties count half, and there is no position covariate.

    Returns:
        The log-likelihoods, and which tables have converged; diverged ones return to their start.
    """
    won, lost, tied = (each.mean(0, keepdims=True) for each in (w, n, t))
    mean = derivatives(cells, theta[:1], won, lost, tied, "half")[2][0]
    inverse, usual, sides = np.linalg.inv(mean), np.diag(mean), abs(cells.transposed)
    y, total, began = w + t / 2, w + n + t, theta.copy()
    live, done = np.arange(len(theta)), np.zeros(len(theta), dtype=bool)
    for sweep in range(_SWEEPS):
        part, rows = theta[live], slice(None) if len(live) == len(theta) else live
        p = expit(cells.differences(part))
        expected = total[rows] * p
        slope = cells.of_items(y[rows] - expected) - RIDGE * part
        step = slope @ inverse
        if sweep >= _FIRST:
            # near-certain winners or losers have little curvature: use their own Newton step
            own = (sides @ (expected * (1 - p)).T).T + RIDGE
            step = np.where(own < 0.2 * usual, np.clip(slope / own, -1.5, 1.5), step)
        theta[live] = part + step
        sane = np.abs(step).max(-1) < _STEP
        arrived = sane & ((slope * step).sum(-1) <= _CLOSE)
        done[live[arrived]] = True
        live = live[sane & ~arrived]
        if not len(live):
            break
    strayed = ~done
    strayed[live] = False
    theta[strayed] = began[strayed]
    d = cells.differences(theta)
    return (y * d - total * np.logaddexp(0, d)).sum(-1), done


def derivatives(
    cells: Cells, theta: Numbers, w: Numbers, n: Numbers, t: Numbers, ties: Ties
) -> tuple[Numbers, Numbers, Numbers]:
    """Log-likelihood [B], its gradient [B, S] and negative Hessian [B, S, S], with the ridge."""
    k, batch = cells.k, len(theta)
    d = cells.differences(theta)
    if cells.sign is not None:
        d = d + theta[:, -1:] * cells.sign
    eta = theta[:, k : k + 1] if ties != "half" else None
    value, g, h, ge, hde, he = cell_derivatives(d, eta, w, n, t, ties)
    size = theta.shape[1]
    slope = np.zeros((batch, size))
    slope[:, :k] = cells.of_items(g) - RIDGE * theta[:, :k]
    if eta is not None:
        slope[:, k] = ge.sum(-1) - RIDGE * theta[:, k]
    if cells.sign is not None:
        slope[:, -1] = (g * cells.sign).sum(-1) - RIDGE * theta[:, -1]
    curvature = np.zeros((batch, size, size))
    block = curvature[:, :k, :k]
    pair = np.zeros((batch, k * k))
    np.add.at(pair.T, cells.i * k + cells.j, h.T) if cells.sign is not None else pair.__setitem__(
        (slice(None), cells.i * k + cells.j), h
    )
    pair = pair.reshape(batch, k, k)
    pair = pair + pair.swapaxes(1, 2)
    block -= pair
    index = np.arange(k)
    block[:, index, index] += pair.sum(-1) + RIDGE
    if eta is not None:
        curvature[:, k, k] = he.sum(-1) + RIDGE
        curvature[:, k, :k] = curvature[:, :k, k] = cells.of_items(hde)
    if cells.sign is not None:
        s = cells.sign
        curvature[:, -1, -1] = (h * s * s).sum(-1) + RIDGE
        curvature[:, -1, :k] = curvature[:, :k, -1] = cells.of_items(h * s)
        if eta is not None:
            curvature[:, -1, k] = curvature[:, k, -1] = (hde * s).sum(-1)
    return value.sum(-1), slope, curvature


def cell_derivatives(
    d: Numbers, eta: Numbers | None, w: Numbers, n: Numbers, t: Numbers, ties: Ties
) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers, Numbers]:
    """For each cell: log-likelihood, d/dd, -d2/dd2, d/deta, -d2/(dd deta), -d2/deta2."""
    total = w + n + t
    if eta is None:
        y, lost = w + t / 2, expit(-d)
        value = y * d + total * np.log(np.maximum(lost, 1e-300))
        expected, none = total * (1 - lost), np.zeros((1, 1))
        return value, y - expected, expected * lost, none, none, none
    if ties == "davidson":
        top = np.maximum(np.abs(d) / 2, eta)
        a, b, c = np.exp(d / 2 - top), np.exp(-d / 2 - top), np.exp(eta - top)
        z = a + b + c
        pw, pl, pt = a / z, b / z, c / z
        value = (w - n) * d / 2 + t * eta - total * (top + np.log(z))
        mean = (pw - pl) / 2
        h = total * ((pw + pl) / 4 - mean**2)
        return (
            value,
            (w - n) / 2 - total * mean,
            h,
            t - total * pt,
            -total * mean * pt,
            total * pt * (1 - pt),
        )
    u, v = expit(d - eta), expit(-d - eta)  # P(win), P(loss)
    up, vp = u * (1 - u), v * (1 - v)
    # P(tie) = (e^(2 eta) - 1) u v; 1 - u - v would round rare ties to zero
    no_win, no_loss, odds = np.logaddexp(0, eta - d), np.logaddexp(0, d + eta), np.expm1(-2 * eta)
    value = t * (np.log(-odds) + 2 * eta) - (w + t) * no_win - (n + t) * no_loss
    g = (w + t) * (1 - u) - (n + t) * (1 - v)
    h = (w + t) * up + (n + t) * vp
    ge = -(w + t) * (1 - u) - (n + t) * (1 - v) - 2 * t / odds
    hde = (n + t) * vp - (w + t) * up
    he = h + t / np.sinh(eta) ** 2
    return value, g, h, ge, hde, he


def islands(wins: Numbers) -> list[list[int]]:
    """Sets of items that no comparison connects, from wins with ties as halves, [K, K]."""
    count, label = connected_components((wins + wins.T) > 0, directed=False)
    return [np.flatnonzero(label == c).tolist() for c in range(count)]


def unbounded(wins: Numbers) -> list[list[int]]:
    """Within islands, sets of items between which no finite maximum exists; [] if there are none.

    A maximum exists if every item can be reached from every other along wins.

    Source: Ford 1957 (Am. Math. Mon. 64).
    """
    count, label = connected_components(wins > 0, directed=True, connection="strong")
    if count == len(islands(wins)):
        return []
    return [np.flatnonzero(label == c).tolist() for c in range(count)]
