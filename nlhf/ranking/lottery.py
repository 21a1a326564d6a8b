"""The maximal lottery, exactly and for many tables at once; robust over contexts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

from nlhf.oracle import solve_equilibrium, unregularised_equilibrium

Numbers = NDArray[np.float64]
TOLERANCE = 1e-11
"""Exploitability that a lottery has at most."""
_TAUS = (3e-3, 3e-4)


def maximal_lotteries(P: Numbers) -> Numbers:
    """Solve max_p min_q p^T (P - 1/2) q for every table; where several solve it, the evenest.

    The lottery of all items is that of the top cycle, the smallest set whose members beat
    everyone outside. In it the regularised equilibrium for a small tau shows which items are
    played; the linear equations that make them all even then give their weights exactly. A
    solution is taken only with a certificate: no item is preferred to it by more than TOLERANCE.
    What is left is solved by linear programming.

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
    left = np.flatnonzero(~alone)
    if not len(left):
        return found
    width = int(sizes[left].max())
    # members first, so that small games stay small
    order = np.argsort(~tops[left], axis=1, kind="stable")[:, :width]
    inside = np.take_along_axis(tops[left], order, 1)
    rows = np.arange(len(left))[:, None, None]
    small = margins[left][rows, order[:, :, None], order[:, None, :]] / 2
    small = np.where(inside[:, :, None] & inside[:, None, :], small, 0.0)
    solved = _solve(small, inside)
    np.put_along_axis(full := np.zeros((len(left), P.shape[1])), order, solved, 1)
    found[left] = full
    return found


def exploitability(P: Numbers, p: Numbers) -> Numbers:
    """max_j P(j > p) - 1/2, [...]; zero for a maximal lottery."""
    return ((P @ p[..., None])[..., 0]).max(-1) - 0.5 * p.sum(-1)


def top_cycles(margins: Numbers) -> NDArray[np.bool_]:
    """The smallest set of which every member beats everyone outside, [B, K].

    Sorted by wins plus half the ties, the first m are such a set where they have the largest
    possible sum, m (m - 1) / 2 + m (K - m).
    """
    wins = (margins > 0).sum(-1) + ((margins == 0).sum(-1) - 1) / 2
    k = margins.shape[-1]
    order = np.argsort(-wins, axis=-1, kind="stable")
    m = np.arange(1, k + 1)
    best = m * (m - 1) / 2 + m * (k - m)
    reached = np.cumsum(np.take_along_axis(wins, order, -1), -1) == best
    size = reached.argmax(-1) + 1
    tops = np.zeros(wins.shape, dtype=bool)
    np.put_along_axis(tops, order, m <= size[..., None], -1)
    return tops


def _solve(A: Numbers, inside: NDArray[np.bool_]) -> Numbers:
    """Lotteries of games with margins A = P - 1/2, [B, m, m], among the items inside."""
    out = np.zeros(inside.shape)
    left = np.arange(len(A))
    scale = np.abs(A).max((1, 2))
    even = scale == 0
    out[even] = inside[even] / inside[even].sum(-1, keepdims=True)
    left = left[~even[left]]
    for tau in _TAUS:
        if not len(left):
            break
        near = _regularised(A[left] / scale[left, None, None], inside[left], tau)
        done = np.zeros(len(left), dtype=bool)
        for n, (game, policy) in enumerate(zip(left.tolist(), near, strict=True)):
            exact = _polished(A[game] / scale[game], policy, inside[game], tau)
            if exact is not None:
                out[game], done[n] = exact, True
        left = left[~done]
    for game in left.tolist():
        keep = np.flatnonzero(inside[game])
        part = torch.from_numpy(A[game][np.ix_(keep, keep)] + 0.5)
        out[game, keep] = unregularised_equilibrium(part).exp().numpy()
    return out


def _regularised(A: Numbers, inside: NDArray[np.bool_], tau: float) -> Numbers:
    log_mu = np.where(inside, -np.log(inside.sum(-1, keepdims=True)), -np.inf)
    P = torch.from_numpy(np.ascontiguousarray(A / 2 + 0.5))
    return solve_equilibrium(P, torch.from_numpy(log_mu), tau).exp().numpy()


def _polished(A: Numbers, near: Numbers, inside: NDArray[np.bool_], tau: float) -> Numbers | None:
    """The exact lottery on the items that are played near the limit, or None.

    An item that is not played loses s against the lottery, and is left e^(-s / tau) of its
    weight; the candidates for the border between both are the largest gaps in the weights.
    """
    order = np.argsort(-near)
    order = order[inside[order] & (near[order] > 0)]
    gaps = np.log(near[order[:-1]]) - np.log(near[order[1:]]) if len(order) > 1 else np.zeros(0)
    # a support has an odd size but where margins are even
    sizes = [int(g) + 1 for g in np.argsort(-gaps)[:6] if gaps[g] > 0.5]
    for size in dict.fromkeys([*sizes, len(order)]):
        keep = np.sort(order[:size])
        p = _evenest(A[np.ix_(keep, keep)], near[keep])
        if p is None:
            continue
        full = np.zeros(len(near))
        full[keep] = p
        if float((A @ full)[inside].max()) <= TOLERANCE:
            return full
    return None


def _evenest(A: Numbers, start: Numbers) -> Numbers | None:
    """The positive p of largest entropy with A p = 0, sum p = 1, or None.

    Where only one p solves it, that is it. Newton's method on the dual: log p = A^T y + const.
    """
    _, s, vt = np.linalg.svd(A)
    null = vt[s <= 1e-11 * max(s[0], 1e-300) if len(s) else slice(0)]
    if not len(null):
        return None
    if len(null) == 1:
        p = null[0] / null[0].sum() if abs(null[0].sum()) > 1e-12 else null[0]
        return p if bool((p > 0).all()) else None
    p = null.T @ (null @ start)
    if not p.sum() > 0 or not bool((p > 0).all()):
        return None
    p = p / p.sum()
    # in the null space, with sum fixed: p + N z
    space = null.T @ np.linalg.svd((null @ np.ones(len(A)))[None])[2][1:].T
    for _ in range(100):
        slope = space.T @ (np.log(p) + 1)
        if np.abs(slope).max() < 1e-13:
            break
        step = space @ np.linalg.solve(space.T @ (space / p[:, None]), -slope)
        short = step < 0
        length = min(1.0, 0.95 * float((p[short] / -step[short]).min())) if short.any() else 1.0
        p = p + length * step
        if np.abs(step).max() < 1e-14:
            break
    return p


def robust_lottery(P: Numbers) -> tuple[Numbers, float]:
    """Solve max_p min_c min_q p^T (P_c - 1/2) q by linear programming.

    Args:
        P: one table a context, [C, K, K].

    Returns:
        p [K], and its value, <= 0: by how much some item of some context is preferred to it.

    Source: Khalaf et al. 2026 (arXiv 2602.21297).
    """
    contexts, k = P.shape[:2]
    A = (P - 0.5).transpose(0, 2, 1).reshape(contexts * k, k)
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
