"""The Bradley-Terry model: the transitive baseline, P(i > j) = sigmoid(r_i - r_j)."""

from __future__ import annotations

import torch
from torch import Tensor

from nlhf.linear import solve


@torch.no_grad()
def fit_bradley_terry(
    P: Tensor, counts: Tensor | None = None, *, ridge: float = 1e-6, iterations: int = 50
) -> Tensor:
    """Maximum-likelihood rewards for win shares P, by Newton's method, with mean zero.

    L(r) = sum_ij n_ij P_ij log sigmoid(r_i - r_j) - ridge ||r||^2 / 2. The ridge keeps rewards
    finite where an action always wins.

    Args:
        P: win shares, [..., K, K].
        counts: comparisons n_ij, [..., K, K]; by default one per pair.
        ridge: > 0.
        iterations: maximum number of Newton steps.

    Returns:
        r, [..., K], with the dtype of P.

    Source: Bradley and Terry 1952 (Biometrika 39); Hunter 2004 (Ann. Stat. 32).
    """
    shares = P.double()
    n = torch.ones_like(shares) if counts is None else counts.double()
    n = n * (1 - torch.eye(P.shape[-1], dtype=n.dtype, device=n.device))
    n = n / n.sum((-1, -2), keepdim=True).clamp_min(1.0) * P.shape[-1]
    r = torch.zeros_like(shares[..., 0])
    eye = torch.eye(P.shape[-1], dtype=n.dtype, device=n.device)
    for _ in range(iterations):
        model = torch.sigmoid(r[..., None] - r[..., None, :])
        slope = (n * (shares - model)).sum(-1) - ridge * r
        weight = n * model * (1 - model)
        curvature = torch.diag_embed(weight.sum(-1)) - weight + ridge * eye
        step = solve(curvature, slope[..., None])[..., 0]
        # far from the maximum Newton overshoots: move each reward by at most 2 per step
        r = r + step * (2.0 / step.abs().amax(-1, keepdim=True).clamp_min(2.0))
        if float(step.abs().max()) < 1e-12:
            break
    return (r - r.mean(-1, keepdim=True)).to(P.dtype)
