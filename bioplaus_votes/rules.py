"""The learning rule: from preferences to the direction in which a network's outputs should move.

The outputs z of the free state are logits, pi = softmax(z). A row's direction g is fixed during the
nudged phases: the slope of the cost at the outputs is -g.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

START = 5
"""Weight of the reference at the first update, in units of tau, unless it is given."""


def log_policy(z: Tensor, log_mu: Tensor) -> Tensor:
    """log pi = log softmax(z) over the answers that the reference plays, [B, K]."""
    return torch.log_softmax(torch.where(torch.isfinite(log_mu), z, -torch.inf), -1)


def log_ratio(log_pi: Tensor, log_mu: Tensor) -> Tensor:
    """log pi / mu, [B, K]; zero for actions that neither plays."""
    played = torch.isfinite(log_mu)
    return torch.where(played, log_pi, 0.0) - torch.where(played, log_mu, 0.0)


def of_values(log_pi: Tensor, a: Tensor) -> Tensor:
    """g_y = pi_y (a_y - sum_y' pi_y' a_y'), [B, K]: the gradient of sum_y pi_y a_y, `a` fixed.

    Args:
        log_pi: log pi, [B, K].
        a: the value of each answer, [B, K].

    Source: Sutton, McAllester, Singh, Mansour 1999: the policy gradient of a softmax.
    """
    pi = log_pi.exp()
    return pi * (a - (pi * a).sum(-1, keepdim=True))


def exact(log_pi: Tensor, P: Tensor, log_other: Tensor, log_mu: Tensor, tau: float) -> Tensor:
    """g of a_y = P(y > other) - tau log pi_y / mu_y, [B, K]; see `of_values`.

    It is the gradient in the logits of P(pi > other) - tau KL(pi, mu), with the opponent fixed.

    Args:
        log_pi: log pi, [B, K].
        P: P(y > y'), [B, K, K].
        log_other: log-probabilities of the opponent, [B, K].
        log_mu: the reference, [B, K].
        tau: weight of the KL, >= 0.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7.
    """
    gain = (P @ log_other.exp()[..., None])[..., 0]
    return of_values(log_pi, gain - tau * log_ratio(log_pi, log_mu))


def of_votes(log_pi: Tensor, y: Tensor, signal: Tensor) -> Tensor:
    """g = mean over votes of (onehot(y) - pi) signal, [B, K].

    It is unbiased for y ~ pi if the mean of the signal given y is the value a_y, up to a constant
    that does not depend on y.

    Args:
        log_pi: log pi, [B, K].
        y: the judged answers, [B, N].
        signal: signal of each vote, [B, N]: one number that every synapse receives.
    """
    g = -log_pi.exp() * signal.mean(-1, keepdim=True)
    return g.scatter_add(-1, y, signal / y.shape[-1])


def of_comparisons(
    log_pi: Tensor,
    log_other: Tensor,
    y: Tensor,
    other: Tensor,
    signal: Tensor,
    other_signal: Tensor,
) -> Tensor:
    """g from votes between own answers y ~ pi and the opponent's, [B, K].

    A pair could have been drawn in either order. g is the mean of `of_votes` over both orders, each
    with its probability given the pair, so that a vote moves both of its answers. The mean over
    votes stays the same, and the variance is never larger: for an opponent that equals the policy
    it is half as large, and a comparison of an answer with itself adds no noise.

    Args:
        log_pi: log pi, [B, K].
        log_other: log-probabilities of the opponent, [B, K].
        y, other: the policy's answers and the opponent's, [B, N].
        signal: the signal of each vote, [B, N].
        other_signal: the signal that each vote would have had in the other order, [B, N].

    Source: Rao 1945, Blackwell 1947 (Annals of Mathematical Statistics 18), for the conditioning.
    """
    drawn = log_pi.gather(-1, y) + log_other.gather(-1, other)
    swapped = log_pi.gather(-1, other) + log_other.gather(-1, y)
    share = torch.sigmoid(drawn - swapped)
    both = torch.cat((share * signal, (1 - share) * other_signal), -1)
    return of_votes(log_pi, torch.cat((y, other), -1), 2 * both)


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
    """g from one vote on a pair chosen by others, [B, K].

    a_i = other_j (bit - 1/2) / q, a_j = -other_i (bit - 1/2) / q, zero elsewhere, minus
    tau log pi / mu. q is the frequency with which that pair is asked. It is unbiased: the sum over
    pairs of q times this value is (P - 1/2) other.

    Args:
        log_pi: log pi, [B, K].
        log_other: log-probabilities of the opponent, [B, K].
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


def weight_at(start: float, end: float, steps: int) -> Callable[[int], float]:
    """The weight of the reference at update 0, 1, ...: it falls geometrically to `end` halfway.

    Args:
        start: weight at update 0, > 0.
        end: weight from half of the updates on, > 0.
        steps: number of updates.
    """
    return lambda step: start * (end / start) ** min(2 * step / max(steps, 1), 1.0)


def natural(g: Tensor, log_pi: Tensor) -> Tensor:
    """g / pi, [B, K]. For g = pi (a - pi . a) this is a - pi . a, the natural gradient.

    A step along it is a mirror descent step: log pi moves by the rate times a, for any pi. With
    single votes on an answer of small pi it can be as large as 1 / pi.

    Source: Kakade 2001, A Natural Policy Gradient.
    """
    pi = log_pi.exp()
    return torch.where(pi > 0, g / pi.clamp_min(torch.finfo(pi.dtype).tiny), 0.0)


def leave_one_out(signal: Tensor) -> Tensor:
    """The mean of a row's other signals, [B, N], N >= 2: an unbiased baseline."""
    n = signal.shape[-1]
    return (signal.sum(-1, keepdim=True) - signal) / (n - 1)


def rewards_as_values(rewards: Tensor) -> Tensor:
    """sigmoid(r): the probability of being preferred to an answer of reward 0, in the units of P.

    In these units tau has the same meaning for a reward as for preferences.

    Source: Bradley and Terry 1952 (Biometrika 39).
    """
    return torch.sigmoid(rewards)
