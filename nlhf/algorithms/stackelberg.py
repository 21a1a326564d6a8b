"""Stackelberg: a leader, and a follower who answers knowing the leader's action."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nlhf.algorithms.base import AbstractAlgorithm, Problem, Schedule, State, rate_at
from nlhf.regularised_game import kl


@dataclass(frozen=True)
class Stackelberg(AbstractAlgorithm):
    """Both players ascend; each row w(. | y) of the follower is updated like a separate policy:
    log w(. | y) <- (1 - e tau) log w + e tau log mu + e P(. > y),
    log pi <- (1 - e tau) log pi + e tau log mu + e v,
    v(y) = P(y > w(. | y)) + tau KL(w(. | y), mu).

    It converges linearly to the Stackelberg equilibrium pi ~ mu exp(v*/tau), v*(y) = -tau log
    sum_y' mu(y') exp(-P(y > y')/tau), which is not the Nash equilibrium.

    Attributes:
        eta: e, constant or a function of the step, at most 1 / tau; min(2, 1 / (2 tau)) if None.

    Source: Pasztor et al. 2025 (arXiv 2512.16626), section 4, equation 5, by mirror steps in place
    of projected gradients.
    """

    name = "stackelberg"
    solves = "other"
    mixes = True
    asks = False
    eta: float | Schedule | None = None

    def step(self, problem: Problem, state: State) -> State:
        eta = rate_at(self.eta, problem.tau, state.step, largest=2.0)
        shape = (*state.log_pi.shape, state.log_pi.shape[-1])
        log_mu = problem.log_mu.expand_as(state.log_pi)
        follower = state.memory.get("follower", log_mu[..., None, :].expand(shape))
        tau = problem.tau.expand(state.log_pi.shape[:-1])
        value = (follower.exp() * problem.P).sum(-1)
        spread = kl.unchecked(follower, log_mu[..., None, :])
        log_pi = _step(state.log_pi, log_mu, value + tau[..., None] * spread, eta, tau)
        wider = (eta.expand_as(tau)[..., None], tau[..., None])
        follower = _step(follower, log_mu[..., None, :], problem.P.mT, *wider)
        return State(log_pi, state.step + 1, {"follower": follower})


def _step(log_p: Tensor, log_mu: Tensor, gain: Tensor, eta: Tensor, tau: Tensor) -> Tensor:
    pull = (eta * tau)[..., None]
    own = torch.where(pull < 1, (1 - pull) * log_p, 0.0)
    return torch.log_softmax(own + pull * log_mu + eta[..., None] * gain, -1)


def stackelberg_equilibrium(P: Tensor, log_mu: Tensor, tau: Tensor) -> Tensor:
    """The leader's policy in closed form, log pi ~ log mu + v*/tau, [..., K]; see `Stackelberg`.

    Args:
        P: [..., K, K].
        log_mu: [..., K].
        tau: [...], the regularisation of both leader and follower.
    """
    t = tau[..., None]
    worst = -t * torch.logsumexp(log_mu[..., None, :] - P / t[..., None], -1)
    return torch.log_softmax(log_mu + worst / t, -1)
