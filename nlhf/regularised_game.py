"""The regularised preference game: best response, exploitability, certificate. THE meaning of tau.

Throughout, `P` [..., K, K] holds P(i > j), the probability that action i is preferred to action
j, with P + P^T = 1; policies are log-probabilities [..., K], -inf allowed; `tau` is a number or a
tensor [...]; all broadcast over the leading dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nlhf.errors import InputError

Tau = float | Tensor


def winning(P: Tensor, pi: Tensor) -> Tensor:
    """P(. > pi): the probability that each action is preferred to a draw of `pi`, [..., K].

    Policies [..., G, K] against games [G, K, K] are one product a game: P is never repeated.
    """
    if P.ndim == 3 and pi.ndim > 2:
        columns = pi.reshape(-1, *pi.shape[-2:]).permute(1, 2, 0)
        return (P @ columns).permute(2, 0, 1).reshape(pi.shape)
    return (P @ pi[..., None])[..., 0]


def payoff(P: Tensor, log_pi: Tensor, log_other: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """P_tau(pi > pi') = P(pi > pi') - tau KL(pi, mu) + tau KL(pi', mu), [...].

    Source: Munos et al. 2023 (arXiv 2312.00886), section 4.
    """
    plain = (log_pi.exp() * winning(P, log_other.exp())).sum(-1)
    return plain - tau * kl(log_pi, log_mu) + tau * kl(log_other, log_mu)


def best_response(P: Tensor, log_pi: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """BR(pi)(y) ~ mu(y) exp(P(y > pi) / tau), [..., K]; the equilibrium is its fixed point.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 4.
    """
    return torch.log_softmax(log_mu + winning(P, log_pi.exp()) / _column(tau), -1)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) = sum_y p (expm1(d) - d), d = log q - log p, [...].

    The sum of p expm1(d) = q - p is zero; with it every term is positive and nothing cancels:
    divergences are exact down to the square of the rounding of d, about 1e-32.
    """
    p = log_p.exp()
    inside = p > 0
    d = torch.where(inside, log_q - torch.where(inside, log_p, 0.0), 0.0)
    return torch.where(inside, p * expm1_minus(d), log_q.exp()).sum(-1)


def expm1_minus(d: Tensor) -> Tensor:
    """exp(d) - 1 - d without cancellation."""
    series = torch.ones_like(d)
    for n in range(12, 2, -1):
        series = 1 + d / n * series
    return torch.where(d.abs() < 0.3, 0.5 * d.square() * series, torch.expm1(d) - d)


def exploitability(P: Tensor, log_pi: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """f(pi) = max_pi' P_tau(pi' > pi) - 1/2 = tau KL(pi || BR(pi)), [...]; zero at equilibrium.

    Infinite where pi has mass that mu has not.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 4, and the Gibbs variational principle.
    """
    return tau * kl(log_pi, best_response(P, log_pi, log_mu, tau))


def duality_gap(P: Tensor, log_pi: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """max_pi' P_tau(pi' > pi) - min_pi' P_tau(pi > pi') = 2 f(pi), [...]."""
    return 2 * exploitability(P, log_pi, log_mu, tau)


def certificate(P: Tensor, log_pi: Tensor, log_mu: Tensor, tau: Tau) -> Tensor:
    """f(pi) / tau, an upper bound of KL(pi || pi*) that needs no knowledge of pi*, [...]."""
    return kl(log_pi, best_response(P, log_pi, log_mu, tau))


def entropy(log_pi: Tensor) -> Tensor:
    """-sum pi log pi in nats, [...]."""
    p = log_pi.exp()
    return -(p * torch.where(p > 0, log_pi, 0.0)).sum(-1)


def value(P: Tensor, pi: Tensor, other: Tensor) -> Tensor:
    """P(pi > pi') of the game without regularisation, from probabilities, [...]."""
    return (pi * winning(P, other)).sum(-1)


def nash_conv(P: Tensor, pi: Tensor) -> Tensor:
    """What both players gain at most by deviating from (pi, pi) without regularisation, [...]."""
    return 2 * (winning(P, pi).amax(-1) - value(P, pi, pi))


def uniform_reference(P: Tensor) -> Tensor:
    """The uniform policy for games P, as log-probabilities [..., K]."""
    return torch.full_like(P[..., 0], 1.0 / P.shape[-1]).log()


def check_game(P: Tensor, log_mu: Tensor, tau: Tau) -> None:
    """Refuse what is no regularised preference game.

    Raises:
        InputError: P is not square, has fewer than two actions, NaN, entries outside 0..1 or
            P + P^T != 1 beyond rounding; tau <= 0; the reference is no distribution over the
            actions.
    """
    if P.ndim < 2 or P.shape[-1] != P.shape[-2]:
        raise InputError(f"P has shape {list(P.shape)}; it must be square: [..., K, K]")
    if P.shape[-1] < 2:
        raise InputError(f"P has {P.shape[-1]} action; a game needs two or more")
    if not bool(torch.isfinite(P).all()):
        raise InputError("P holds NaN or infinite entries; give probabilities between 0 and 1")
    low, high = float(P.min()), float(P.max())
    if low < 0 or high > 1:
        raise InputError(f"P has entries from {low:g} to {high:g}; they must lie between 0 and 1")
    off = float((P + P.mT - 1).abs().max())
    if off > 16 * torch.finfo(P.dtype).eps:
        raise InputError(f"P + P^T differs from 1 by up to {off:.3g}; one of i > j, j > i must win")
    taus = torch.as_tensor(tau)
    if not bool((torch.isfinite(taus) & (taus > 0)).all()):
        raise InputError(f"tau={float(taus.min())} must be positive and finite")
    if log_mu.shape[-1] != P.shape[-1]:
        raise InputError(f"the reference has {log_mu.shape[-1]} actions and P {P.shape[-1]}")
    total = log_mu.exp().sum(-1)
    if bool(torch.isnan(log_mu).any()) or float((total - 1).abs().max()) > 1e-4:
        raise InputError("the reference is no distribution: probabilities >= 0 that sum to 1")


def _column(tau: Tau) -> Tau:
    return tau[..., None] if isinstance(tau, Tensor) else tau
