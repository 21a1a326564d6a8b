"""The Bradley-Terry model: the transitive baseline, P(i > j) = sigmoid(r_i - r_j)."""

from __future__ import annotations

import torch
from scipy.sparse.csgraph import shortest_path
from torch import Tensor

from nlhf.linear import solve

_ARRIVED = 1e-12
_UNDECIDED = 1e-6
"""Newton steps below which a fit ends, and above which its last one leaves it without a result."""


@torch.no_grad()
def fit_bradley_terry(
    P: Tensor, counts: Tensor | None = None, *, ridge: float = 1e-6, iterations: int = 300
) -> Tensor:
    """Maximum-likelihood rewards for win shares P, by Newton's method, with mean zero.

    L(r) = sum_ij n_ij P_ij log sigmoid(r_i - r_j) - ridge ||r||^2 / 2. The ridge keeps rewards
    finite where an action always wins, and decides how large they are there: see
    `limiting_rewards`.

    Args:
        P: win shares, [..., K, K].
        counts: comparisons n_ij, [..., K, K]; by default one per pair.
        ridge: >= 0; with 0 there must be a finite maximum.
        iterations: maximum number of Newton steps.

    Returns:
        r, [..., K], with the dtype of P; NaN where no maximum was found.

    Source: Bradley and Terry 1952 (Biometrika 39); Hunter 2004 (Ann. Stat. 32).
    """
    shares, k = P.double(), P.shape[-1]
    eye = torch.eye(k, dtype=shares.dtype, device=shares.device)
    n = torch.ones_like(shares) if counts is None else counts.double()
    n = n * (1 - eye)
    n = n / n.sum((-1, -2), keepdim=True).clamp_min(1.0) * k
    r = torch.zeros_like(shares[..., 0])
    wins = n * shares
    step = torch.full_like(r, torch.inf)
    for _ in range(iterations):
        d = r[..., None] - r[..., None, :]
        ahead, behind = torch.sigmoid(d), torch.sigmoid(-d)
        # antisymmetric to the last bit, also where one of the two is close to 1
        slope = (wins * behind - wins.mT * ahead).sum(-1) - ridge * r
        weight = n * ahead * behind
        # a constant fixes the mean and nothing else, because the slopes add up to zero
        fixed = weight.amax((-1, -2), keepdim=True)
        fixed = torch.where(fixed > 0, fixed, 1.0)
        curvature = torch.diag_embed(weight.sum(-1)) - weight + ridge * eye + fixed
        step = solve(curvature, slope[..., None])[..., 0]
        # far from the maximum Newton overshoots: move each reward by at most 2 per step
        r = r + step * (2.0 / step.abs().amax(-1, keepdim=True).clamp_min(2.0))
        if not bool((step.abs() >= _ARRIVED).any()):
            break
    found = step.abs().amax(-1, keepdim=True) < _UNDECIDED
    return torch.where(found, r - r.mean(-1, keepdim=True), torch.nan).to(P.dtype)


def limiting_rewards(P: Tensor, counts: Tensor | None, played: Tensor) -> Tensor:
    """Rewards, relative to the best, towards which those of rising likelihood tend.

    The likelihood has a finite maximum if every action can be reached from every other along wins.
    Otherwise the actions split into sets that can reach one another, and the differences between
    sets grow without bound. If one set is above all others, the rewards within it are those of its
    own comparisons, and the other actions fall infinitely far behind. If none is, the data does
    not determine which action is best.

    Args:
        P: win shares, [C, K, K].
        counts: comparisons, [C, K, K]; by default one per pair.
        played: the actions to compare, [C, K]; others count as their opponents only.

    Returns:
        r, [C, K], float64: -inf for actions infinitely far behind; a row is NaN where the best
        action is not determined.

    Source: Ford 1957 (Am. Math. Mon. 64), for the maximum; the limit follows from Albert and
        Anderson 1984 (Biometrika 71), quasi-complete separation.
    """
    n = torch.ones_like(P) if counts is None else counts.to(P)
    joined = (n * P > 0) | torch.eye(P.shape[-1], dtype=torch.bool, device=P.device)
    whole = joined.all(-1).all(-1)
    rewards = torch.full(P.shape[:2], torch.nan, dtype=torch.float64, device=P.device)
    if whole.any():
        rewards[whole] = fit_bradley_terry(P[whole].double(), n[whole], ridge=0.0)
    for i in (~whole).nonzero().flatten().tolist():
        best = _topmost(joined[i], played[i])
        if best is not None:
            among = (i, *torch.meshgrid(*[best.nonzero().flatten()] * 2, indexing="ij"))
            rewards[i] = -torch.inf
            rewards[i, best] = fit_bradley_terry(P[among].double(), n[among], ridge=0.0)
    return rewards


def _topmost(joined: Tensor, played: Tensor) -> Tensor | None:
    """The set that is above the other actions played, a mask [K]; None if there is none."""
    distances = shortest_path(joined.cpu().numpy(), unweighted=True)
    reaches = torch.from_numpy(distances).isfinite().to(played.device)
    above = reaches & ~reaches.T  # wins lead from i to j, and none back
    top = played & ~above[played].any(0)
    best = reaches[top.int().argmax()] & reaches.T[top.int().argmax()]
    return best if bool(best[top].all()) else None
