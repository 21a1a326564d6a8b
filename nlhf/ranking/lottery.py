"""Maximal lotteries, exact, for many tables at once; and robust over contexts."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import qr
from scipy.special import xlogy

from nlhf.oracle import solve_equilibrium, unregularised_equilibrium
from nlhf.ranking.simplex import supports

Numbers = NDArray[np.float64]
TOLERANCE = 1e-11
"""Largest exploitability of a solved lottery."""
_STRICT = 1e-9
_SINGULAR = 1e8
_TAUS = (3e-4, 3e-5, 3e-6)
_MANY = 200
"""Number of items from which the most even lottery is searched for only once."""
_FACTOR = 0.1
"""Continuation factor; steps too bold are retried or solved by linear programming."""
_AT_ONCE = 128


def maximal_lotteries(P: Numbers) -> Numbers:
    """Solve max_p min_q p^T (P - 1/2) q for every table; the most even solution if several exist.

    The lottery of all items is that of the top cycle, the smallest set whose members beat everyone
    outside. Within it, the simplex method, run on all tables at once, finds which items are played.
    Linear equations then give their weights. Where the solution may not be unique, the regularised
    equilibrium for a small tau shows who is played in the most even one. Every solution is
    certified: no item is preferred to it by more than TOLERANCE. Remaining tables are solved by
    linear programming, one at a time, and their solution need not be the most even.

    Args:
        P: win probabilities, [B, K, K].

    Returns:
        p, [B, K].

    Source: Fishburn 1984 (Review of Economic Studies 51); top cycle: Good 1971 (Public Choice 10).
    """
    margins = P - P.swapaxes(-1, -2)
    found = np.zeros(P.shape[:2])
    tops = top_cycles(margins)
    sizes = tops.sum(-1)
    alone = sizes == 1
    found[alone] = tops[alone]
    # group games of similar size, so that small ones stay small
    left = np.argsort(sizes, kind="stable")[int(alone.sum()) :]
    for start in range(0, len(left), _AT_ONCE):
        games = left[start : start + _AT_ONCE]
        width = int(sizes[games].max())
        order = np.argsort(~tops[games], axis=1, kind="stable")[:, :width]
        inside = np.take_along_axis(tops[games], order, 1)
        rows = np.arange(len(games))[:, None, None]
        small = margins[games][rows, order[:, :, None], order[:, None, :]] / 2
        small = np.where(inside[:, :, None] & inside[:, None, :], small, 0.0)
        full = np.zeros((len(games), P.shape[1]))
        np.put_along_axis(full, order, _solve(small, inside), 1)
        found[games] = full
    return found


def exploitability(P: Numbers, p: Numbers) -> Numbers:
    """max_j P(j > p) - 1/2, [...]; zero for a maximal lottery."""
    return ((P @ p[..., None])[..., 0]).max(-1) - 0.5 * p.sum(-1)


def top_cycles(margins: Numbers) -> NDArray[np.bool_]:
    """The smallest set of which every member beats everyone outside, [B, K].

    Sort items by wins plus half the ties. The first m form such a set if their sum has its largest
    possible value, m (m - 1) / 2 + m (K - m).
    """
    return tops_of_wins((margins > 0).sum(-1) + ((margins == 0).sum(-1) - 1) / 2)


def tops_of_wins(wins: Numbers) -> NDArray[np.bool_]:
    """The top cycles, from the number of others that each item beats, ties as halves, [B, K]."""
    k = wins.shape[-1]
    order = np.argsort(-wins, axis=-1, kind="stable")
    m = np.arange(1, k + 1)
    best = m * (m - 1) / 2 + m * (k - m)
    reached = np.cumsum(np.take_along_axis(wins, order, -1), -1) == best
    size = reached.argmax(-1) + 1
    tops = np.zeros(wins.shape, dtype=bool)
    np.put_along_axis(tops, order, m <= size[..., None], -1)
    return tops


def _solve(A: Numbers, inside: NDArray[np.bool_]) -> Numbers:
    """Lotteries of games with margins A = P - 1/2, [B, m, m], among the items in `inside`."""
    out = np.zeros(inside.shape)
    scale = np.abs(A).max((1, 2))
    even = scale == 0
    out[even] = inside[even] / inside[even].sum(-1, keepdims=True)
    left = np.flatnonzero(~even)
    if not len(left):
        return out
    A = A / np.where(even, 1.0, scale)[:, None, None]
    p, only = _on_supports(A[left], inside[left], supports(A[left], inside[left]))
    out[left[only]] = p[only]
    left, vertex = left[~only], p[~only]
    whole = ~_solve_parts(A, inside, left, out)
    left, vertex = left[whole], vertex[whole]
    for tau in _TAUS if A.shape[-1] <= _MANY else _TAUS[:1]:
        if not len(left):
            break
        near = _regularised(A[left], inside[left], tau)
        exact = [_evenest_near(A[g], w, inside[g]) for g, w in zip(left, near, strict=True)]
        done = np.array([each is not None for each in exact])
        out[left[done]] = [each for each in exact if each is not None] or 0.0
        left, vertex = left[~done], vertex[~done]
    for game, policy in zip(left.tolist(), vertex, strict=True):
        keep = np.flatnonzero(inside[game])
        if policy.sum() > 0 and float((A[game] @ policy).max()) <= TOLERANCE:
            out[game] = policy
            continue
        part = torch.from_numpy(A[game][np.ix_(keep, keep)] / 2 + 0.5)
        out[game, keep] = unregularised_equilibrium(part).exp().numpy()
    return out


def _solve_parts(
    A: Numbers, inside: NDArray[np.bool_], games: NDArray[np.int64], out: Numbers
) -> NDArray[np.bool_]:
    """Write the most even lotteries of disconnected games to `out`; return their mask, [G].

    Between parts all margins are zero, so any mixture of their lotteries is a solution. The most
    even one weights each part by e^H, where H is the entropy of the part's own most even lottery.
    """
    labels = _labels(A[games] != 0)
    first = np.take_along_axis(labels, inside[games].argmax(-1)[:, None], 1)
    apart = (inside[games] & (labels != first)).any(-1)
    parts: list[tuple[int, NDArray[np.int64]]] = []
    for game, label in zip(games[apart].tolist(), labels[apart], strict=True):
        here = np.flatnonzero(inside[game])
        order = here[np.argsort(label[here], kind="stable")]
        ends = np.flatnonzero(np.diff(label[order])) + 1
        parts += [(game, part) for part in np.split(order, ends)]
    # group parts of similar size, so that small ones stay small
    parts.sort(key=lambda part: len(part[1]))
    for start in range(0, len(parts), _AT_ONCE):
        some = parts[start : start + _AT_ONCE]
        width = len(some[-1][1])
        small, there = np.zeros((len(some), width, width)), np.zeros((len(some), width), dtype=bool)
        for place, (game, part) in enumerate(some):
            small[place, : len(part), : len(part)] = A[game][np.ix_(part, part)]
            there[place, : len(part)] = True
        found = _solve(small, there)
        weight = np.exp(-xlogy(found, found).sum(-1))
        for p, w, (game, part) in zip(found, weight, some, strict=True):
            out[game, part] = w * p[: len(part)]
    split = games[apart]
    out[split] /= out[split].sum(-1, keepdims=True)
    return apart


def _labels(edges: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each item, the smallest item reachable along edges, [G, m]."""
    m = edges.shape[-1]
    labels = np.tile(np.arange(m), (len(edges), 1))
    while True:
        nearest = np.where(edges, labels[:, None, :], m).min(-1, initial=m)
        new = np.minimum(labels, nearest)
        # pointer jumping: the label of one's label is closer to the smallest item
        new = np.minimum(new, np.take_along_axis(new, new, 1))
        if (new == labels).all():
            return labels
        labels = new


def _on_supports(
    A: Numbers, inside: NDArray[np.bool_], played: NDArray[np.bool_]
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Solve on given supports: lotteries, zero where there is none, and whether they are unique.

    Since p^T A p = 0, (A + 1 1^T) p = 1 on the support has the solution A p = 0, sum p = 1. It is
    unique if the equations are regular and all other items lose to it.
    """
    both = played[:, :, None] & played[:, None, :]
    matrix = np.where(both, A + 1.0, np.eye(A.shape[-1]) * ~played[:, :, None])
    right = played.astype(float)
    p = np.zeros(played.shape)
    odd = played.sum(-1) % 2 == 1
    probe = np.random.default_rng(0).standard_normal(played.shape) * played
    solved = np.zeros((*played.shape, 2))
    solved[odd] = _solved(matrix[odd], np.stack([right, probe], -1)[odd])
    regular = odd & (np.abs(solved[..., 1]).max(-1) < _SINGULAR)
    p[regular] = solved[regular][..., 0]
    gain = (A @ p[..., None])[..., 0]
    good = regular & (p >= 0).all(-1) & (gain.max(-1) <= TOLERANCE)
    p = np.where(good[:, None], p / np.where(good, p.sum(-1), 1.0)[:, None], 0.0)
    outside = inside & ~played
    strict = np.where(outside, gain, -1.0).max(-1) < -_STRICT
    least = np.where(played, p, 1.0).min(-1) > _STRICT
    return p, good & strict & least


def _solved(matrix: Numbers, right: Numbers) -> Numbers:
    """Solutions of linear equations, infinite where there are none."""
    try:
        return np.linalg.solve(matrix, right).astype(np.float64)
    except np.linalg.LinAlgError:
        if len(matrix) == 1:
            return np.full(right.shape, np.inf)
        # a singular system must not affect the others
        return np.concatenate(
            [_solved(m[None], r[None]) for m, r in zip(matrix, right, strict=True)]
        )


def _regularised(A: Numbers, inside: NDArray[np.bool_], tau: float) -> Numbers:
    log_mu = np.where(inside, -np.log(inside.sum(-1, keepdims=True)), -np.inf)
    P = torch.from_numpy(np.ascontiguousarray(A / 2 + 0.5))
    log_pi = solve_equilibrium(P, torch.from_numpy(log_mu), tau, factor=_FACTOR, throw=False)
    return log_pi.exp().numpy()


def _evenest_near(A: Numbers, near: Numbers, inside: NDArray[np.bool_]) -> Numbers | None:
    """The most even lottery on the items that are played in the limit of small tau, or None.

    An item that loses s against the lottery keeps e^(-s / tau) of its weight. Candidates for the
    boundary between both kinds of items are the largest gaps in the weights.
    """
    order = np.argsort(-near)
    order = order[inside[order] & (near[order] > 0)]
    if not len(order):
        return None
    gaps = np.log(near[order[:-1]]) - np.log(near[order[1:]]) if len(order) > 1 else np.zeros(0)
    sizes = [int(g) + 1 for g in np.argsort(-gaps)[:4] if gaps[g] > 0.5]
    best, most = None, -1.0
    # the more items are played, the more even
    for size in sorted({*sizes, len(order)}, reverse=True):
        keep = np.sort(order[:size])
        p = _evenest(A[np.ix_(keep, keep)], near[keep])
        if p is None:
            continue
        full = np.zeros(len(near))
        full[keep] = p
        entropy = float(-xlogy(p, p).sum())
        if entropy > most and float((A @ full)[inside].max()) <= TOLERANCE:
            best, most = full, entropy
            if (p > 0).all():
                break
    return best


def _evenest(A: Numbers, start: Numbers) -> Numbers | None:
    """The p >= 0 of largest entropy with A p = 0, sum p = 1, or None; starts from a p near it.

    Items whose weight the equations force to zero count as beaten, not as played.
    """
    # A and A^T have the same null space; pivoted QR finds the rank at a fifth of the SVD's cost
    q, r, _ = cast("tuple[Numbers, Numbers, Any]", qr(A, pivoting=True, check_finite=False))
    size = np.abs(np.diag(r))
    null = q.T[size <= 1e-11 * max(size[0], 1e-300)]
    if not len(null):
        return None
    free = np.abs(null).max(0) > 1e-9
    null = null[:, free]
    p = null.T @ (null @ start[free])
    if not p.sum() > 0 or not bool((p > 0).all()):
        return None
    p = p / p.sum()
    # in the null space with the sum fixed
    space = null.T @ np.linalg.svd((null @ np.ones(len(p)))[None])[2][1:].T
    for _ in range(100):
        slope = space.T @ np.log(p)
        if not len(slope) or np.abs(slope).max() < 1e-13:
            break
        try:
            step = space @ np.linalg.solve(space.T @ (space / p[:, None]), -slope)
        except np.linalg.LinAlgError:
            return None  # a weight went to zero: its item is not played
        short = step < 0
        length = min(1.0, 0.95 * float((p[short] / -step[short]).min())) if short.any() else 1.0
        p = p + length * step
        if np.abs(step).max() < 1e-14:
            break
    full = np.zeros(len(A))
    full[free] = p
    return full


def robust_lottery(P: Numbers) -> tuple[Numbers, float]:
    """Solve max_p min_c min_q p^T (P_c - 1/2) q by linear programming.

    Args:
        P: one table per context, [C, K, K].

    Returns:
        p [K], and its value, <= 0: minus the largest margin by which an item beats it in a context.

    Source: Khalaf et al. 2026 (arXiv 2602.21297).
    """
    contexts, k = P.shape[:2]
    A = (P - 0.5).transpose(0, 2, 1).reshape(contexts * k, k)
    from scipy.optimize import linprog  # slow to import (0.5 s) and seldom needed

    end = linprog(
        c=np.append(np.zeros(k), -1.0),
        A_ub=np.hstack([-A, np.ones((contexts * k, 1))]),
        b_ub=np.zeros(contexts * k),
        A_eq=np.append(np.ones(k), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * k + [(None, None)],
        method="highs",
    )
    p = np.maximum(end.x[:k], 0.0)
    p /= p.sum()
    return p, float((A @ p).min())
