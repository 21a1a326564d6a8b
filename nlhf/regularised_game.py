"""The regularised preference game: best response, exploitability, certificate. It defines tau.

Throughout, `P` [..., K, K] holds P(i > j), the probability that action i is preferred to action
j, with P + P^T = 1; policies are log-probabilities [..., K], -inf allowed; `tau` is a number or a
tensor [...]; all broadcast over the leading dimensions. A function marked `Checked` raises
InputError for anything else; loops call its `unchecked`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nlhf.checks import Checked, Tau, check_game

__all__ = [
    "CONVERGED",
    "Tau",
    "best_response",
    "certificate",
    "certificate_with_rounding",
    "check_game",
    "duality_gap",
    "entropy",
    "exploitability",
    "expm1_minus",
    "kl",
    "nash_conv",
    "payoff",
    "uniform_reference",
    "value",
    "winning",
]


def winning(P: Tensor, log_pi: Tensor) -> Tensor:
    """P(. > pi): the probability that each action is preferred to a draw of pi, [..., K].

    For policies [..., G, K] and games [G, K, K] this is one product per game; P is never copied.
    """
    pi = log_pi.exp()
    if P.ndim == 3 and pi.ndim > 2:
        columns = pi.reshape(-1, *pi.shape[-2:]).permute(1, 2, 0)
        return (P @ columns).permute(2, 0, 1).reshape(pi.shape)
    return (P @ pi[..., None])[..., 0]


@Checked
def payoff(P: Tensor, log_pi: Tensor, log_other: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """P_tau(pi > pi') = P(pi > pi') - tau KL(pi, mu) + tau KL(pi', mu), [...].

    Source: Munos et al. 2023 (arXiv 2312.00886), section 4.
    """
    own, others = kl.unchecked(log_pi, log_mu), kl.unchecked(log_other, log_mu)
    return value.unchecked(P, log_pi, log_other) - tau * own + tau * others


@Checked
def best_response(P: Tensor, log_pi: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """BR(pi)(y) ~ mu(y) exp(P(y > pi) / tau), [..., K]; the equilibrium is its fixed point.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 4.
    """
    return torch.log_softmax(log_mu + winning(P, log_pi) / _column(tau), -1)


@Checked
def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) = sum_y p (expm1(d) - d), d = log q - log p, [...].

    The sum of p expm1(d) = q - p is zero. Adding it makes every term non-negative, so nothing
    cancels and divergences are exact down to the square of the rounding of d, about 1e-32.
    """
    p, q = log_p.exp(), log_q.exp()
    inside = p > 0
    d = torch.where(inside, log_q - torch.where(inside, log_p, 0.0), 0.0)
    # exp(d) may overflow where p is tiny; q - p does not
    terms = torch.where(d < 0.3, p * expm1_minus(d.clamp_max(0.3)), q - p - p * d)
    return torch.where(inside, terms, q).sum(-1)


def expm1_minus(d: Tensor) -> Tensor:
    """exp(d) - 1 - d without cancellation."""
    series = torch.ones_like(d)
    for n in range(12, 2, -1):
        series = 1 + d / n * series
    return torch.where(d.abs() < 0.3, 0.5 * d.square() * series, torch.expm1(d) - d)


@Checked
def exploitability(P: Tensor, log_pi: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """f(pi) = max_pi' P_tau(pi' > pi) - 1/2 = tau KL(pi || BR(pi)), [...]; zero at equilibrium.

    Infinite where pi puts mass on an action that mu excludes.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 4, and the Gibbs variational principle.
    """
    return tau * kl.unchecked(log_pi, best_response.unchecked(P, log_pi, log_mu, tau))


@Checked
def duality_gap(P: Tensor, log_pi: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """max_pi' P_tau(pi' > pi) - min_pi' P_tau(pi > pi') = 2 f(pi), [...]."""
    return 2 * exploitability.unchecked(P, log_pi, log_mu, tau)


@Checked
def certificate(P: Tensor, log_pi: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """f(pi) / tau, an upper bound of KL(pi || pi*) that needs no knowledge of pi*, [...]."""
    return kl.unchecked(log_pi, best_response.unchecked(P, log_pi, log_mu, tau))


CONVERGED = 1e-3
"""Largest certificate, in nats, with which a policy counts as the equilibrium."""


def certificate_with_rounding(P: Tensor, log_pi: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """An upper bound on the certificate in exact arithmetic, [...]; arguments are not checked.

    (sqrt(f / tau) + e)^2 with e = u ((K + 4) / tau + sqrt(sum_y pi (log pi^2 + log mu^2))) and u
    the unit roundoff. e bounds the rounding error of P pi / tau, log pi and log mu. A large bound
    shows that tau is too small for the precision.

    Source: the triangle inequality of the norm sum_y pi d^2 of small d = log BR - log pi; Higham
    2002, Accuracy and Stability of Numerical Algorithms, section 3.1.
    """
    u = 0.5 * torch.finfo(P.dtype).eps
    pi = log_pi.exp()
    inside = (pi > 0) & torch.isfinite(log_mu)
    squares = torch.where(inside, pi * (log_pi.square() + log_mu.square()), 0.0).sum(-1)
    off = u * ((P.shape[-1] + 4) / tau + squares.sqrt())
    return (certificate.unchecked(P, log_pi, log_mu, tau).sqrt() + off).square()


@Checked
def entropy(log_pi: Tensor) -> Tensor:
    """-sum pi log pi in nats, [...]."""
    p = log_pi.exp()
    return -(p * torch.where(p > 0, log_pi, 0.0)).sum(-1)


@Checked
def value(P: Tensor, log_pi: Tensor, log_other: Tensor) -> Tensor:
    """P(pi > pi') of the game without regularisation, [...]."""
    return (log_pi.exp() * winning(P, log_other)).sum(-1)


@Checked
def nash_conv(P: Tensor, log_pi: Tensor) -> Tensor:
    """The largest total gain of both players by deviating from (pi, pi), unregularised, [...].

    2 (max_y P(y > pi) - 1/2): zero at an equilibrium, and never negative up to rounding.
    """
    return 2 * (winning(P, log_pi).amax(-1) - value.unchecked(P, log_pi, log_pi))


def uniform_reference(P: Tensor) -> Tensor:
    """The uniform policy for games P, as log-probabilities [..., K]."""
    return torch.full_like(P[..., 0], 1.0 / P.shape[-1]).log()


def _column(tau: Tau) -> Tau:
    return tau[..., None] if isinstance(tau, Tensor) else tau
