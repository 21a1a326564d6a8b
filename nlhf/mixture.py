"""Geometric mixtures of distributions."""

from __future__ import annotations

import torch
from torch import Tensor

from nlhf.errors import InputError


def geometric_mixture(log_pi: Tensor, log_mu: Tensor, weight: float | Tensor) -> Tensor:
    """log of pi^(1 - w) mu^w, normalised, [..., K].

    Args:
        log_pi: log-probabilities.
        log_mu: log-probabilities of the reference; -inf excludes an action unless w = 0.
        weight: w of the reference in [0, 1], a number or [...]: 0 is pi, 1 is mu.

    Raises:
        InputError: the weight lies outside [0, 1].

    Source: Munos et al. 2023 (arXiv 2312.00886), section 6.
    """
    w = torch.as_tensor(weight, dtype=log_pi.dtype, device=log_pi.device)
    if not bool(((w >= 0) & (w <= 1)).all()):
        worst = w.flatten()[(w - 0.5).abs().argmax()]
        raise InputError(f"mixture weight {float(worst):g} must lie between 0 and 1")
    return mixed(log_pi, log_mu, w)


def mixed(log_pi: Tensor, log_mu: Tensor, w: Tensor) -> Tensor:
    """`geometric_mixture` without checking the weights [...], so it never waits for the device."""
    w = w[..., None]
    # 0 * -inf is NaN: leave out a component of zero weight
    own = torch.where(w < 1, (1 - w) * log_pi, 0.0)
    reference = torch.where(w > 0, w * log_mu, 0.0)
    return torch.log_softmax(own + reference, -1)
