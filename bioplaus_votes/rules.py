"""The rule: from preferences to the direction in which the outputs of a network are to move.

The outputs z of the free state are logits, pi = softmax(z). The direction g of a row is held fixed
in its nudged phases: the slope of the cost at the outputs is -g.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_policy(z: Tensor, log_mu: Tensor) -> Tensor:
    """log pi = log softmax(z) over the answers that the reference plays, [B, K]."""
    return torch.log_softmax(torch.where(torch.isfinite(log_mu), z, -torch.inf), -1)


def log_ratio(log_pi: Tensor, log_mu: Tensor) -> Tensor:
    """log pi / mu, [B, K]; zero for what neither plays."""
    played = torch.isfinite(log_mu)
    return torch.where(played, log_pi, 0.0) - torch.where(played, log_mu, 0.0)


def of_values(log_pi: Tensor, a: Tensor) -> Tensor:
    """g_y = pi_y (a_y - sum_y' pi_y' a_y'), [B, K]: the slope of sum_y pi_y a_y, `a` held.

    Args:
        log_pi: log pi, [B, K].
        a: the value of each answer, [B, K].

    Source: Sutton, McAllester, Singh, Mansour 1999, the policy gradient of a softmax.
    """
    pi = log_pi.exp()
    return pi * (a - (pi * a).sum(-1, keepdim=True))


def exact(log_pi: Tensor, P: Tensor, log_other: Tensor, log_mu: Tensor, tau: float) -> Tensor:
    """g of a_y = P(y > other) - tau log pi_y / mu_y, [B, K]; see `of_values`.

    It is the slope in the logits of P(pi > other) - tau KL(pi, mu), the opponent held.

    Args:
        log_pi: log pi, [B, K].
        P: P(y > y'), [B, K, K].
        log_other: the opponent, [B, K].
        log_mu: the reference, [B, K].
        tau: weight of the KL, >= 0.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7; MATH: preferences as a nudge.
    """
    gain = (P @ log_other.exp()[..., None])[..., 0]
    return of_values(log_pi, gain - tau * log_ratio(log_pi, log_mu))


def of_votes(log_pi: Tensor, y: Tensor, signal: Tensor) -> Tensor:
    """g = mean over votes of (onehot(y) - pi) signal, [B, K].

    Unbiased for y ~ pi, where the mean of a signal given y is the value a_y up to a constant that
    does not depend on y.

    Args:
        log_pi: log pi, [B, K].
        y: the answers that were judged, [B, N].
        signal: of each vote, [B, N]: one number that every synapse hears.
    """
    g = -log_pi.exp() * signal.mean(-1, keepdim=True)
    return g.scatter_add(-1, y, signal / y.shape[-1])


def of_pair(
    log_pi: Tensor,
    log_other: Tensor,
    first: Tensor,
    second: Tensor,
    bit: Tensor,
    share: Tensor,
    log_mu: Tensor,
    tau: float,
) -> Tensor:
    """g from one vote on a pair that others have chosen, [B, K].

    a_i = other_j (bit - 1/2) / q, a_j = -other_i (bit - 1/2) / q, zero elsewhere, minus
    tau log pi / mu; q is how often that pair is asked. Unbiased: the sum over pairs of q times it
    is (P - 1/2) other.

    Args:
        log_pi: log pi, [B, K].
        log_other: the opponent, [B, K].
        first, second: the pair i, j, [B].
        bit: 1 where i was preferred, 0 where j was, 1/2 for a tie, [B].
        share: q > 0, [B].
        log_mu: the reference, [B, K].
        tau: weight of the KL, >= 0.
    """
    other, pair = log_other.exp(), torch.stack((first, second), -1)
    weight = ((bit - 0.5) / share)[:, None] * other.gather(-1, pair.flip(-1))
    sign = torch.tensor([1.0, -1.0], dtype=weight.dtype, device=weight.device)
    a = torch.zeros_like(log_pi).scatter_add(-1, pair, weight * sign)
    return of_values(log_pi, a - tau * log_ratio(log_pi, log_mu))


def natural(g: Tensor, log_pi: Tensor) -> Tensor:
    """g / pi, [B, K]: of g = pi (a - pi . a) it is a - pi . a, the slope of the natural gradient.

    A step along it is one of mirror descent: log pi moves by the rate times a, whatever pi is. Of
    single votes on an answer of small pi it is as large as 1 / pi.

    Source: Kakade 2001, A Natural Policy Gradient.
    """
    pi = log_pi.exp()
    return torch.where(pi > 0, g / pi.clamp_min(torch.finfo(pi.dtype).tiny), 0.0)


def leave_one_out(signal: Tensor) -> Tensor:
    """The mean of a row's other signals, [B, N], N >= 2: a baseline without bias."""
    n = signal.shape[-1]
    return (signal.sum(-1, keepdim=True) - signal) / (n - 1)


def rewards_as_values(rewards: Tensor) -> Tensor:
    """sigmoid(r): how often an answer is preferred to one of reward 0, in the units of P.

    In these units the same tau means the same for a reward as for preferences.

    Source: Bradley and Terry 1952 (Biometrika 39).
    """
    return torch.sigmoid(rewards)
