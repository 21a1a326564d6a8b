"""Results of a run of `nash-md` on tables, one per context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nlhf.algorithms import Problem
from nlhf.errors import InputError
from nlhf.preferences.base import Preferences
from nlhf.preferences.bradley_terry import limiting_rewards
from nlhf.ranking.lottery import maximal_lotteries
from nlhf.regularised_game import (
    CONVERGED,
    certificate_with_rounding,
    exploitability,
    kl,
    nash_conv,
    payoff,
    winning,
)
from nlhf.remedy import find_remedy

TIE = 1e-9
"""Bradley-Terry rewards that differ by less than this count as tied."""
SUPPORT = 0.001
"""Smallest probability with which an action counts as part of a policy's support."""


@dataclass(frozen=True)
class ContextResult:
    """The result for one context. A number that does not exist is None.

    Attributes:
        context, actions, policy: the context's name, its actions, and the probabilities that the
            method gives them.
        converged: whether the policy's certificate is at most CONVERGED.
        remedy: if the policy has not converged, the settings that would have.
        exploitability: f(policy).
        certificate: bound on KL(policy || equilibrium) that needs no oracle, rounding included.
        equilibrium: the oracle's policy pi*, or None where its certificate exceeds CONVERGED.
        equilibrium_certificate: the same bound for the equilibrium.
        kl_to_equilibrium: KL(policy || equilibrium), computed with the oracle's policy.
        kl_from_equilibrium: KL(equilibrium || policy), the distance in the theorems.
        iterations: number of steps taken.
        support: the actions with probability of at least SUPPORT.
        plain_equilibrium: an equilibrium without regularisation (the maximal lottery) among the
            actions of the reference, and the most even one where there are several.
        plain_exploitability: max_y P(y > plain_equilibrium) - 1/2, its certificate.
        bradley_terry_winner: the action with the largest Bradley-Terry reward r. None in a tie,
            or where the comparisons do not determine the largest reward (see `limiting_rewards`).
        bradley_terry_tied: the actions that tie for the largest reward: two or more, or none.
        bradley_terry_loss: in the regularised game, P_tau(equilibrium > mu exp(r / tau)) - 1/2:
            how much the RLHF policy for that reward loses to the equilibrium, >= 0.
        bradley_terry_worst: in the plain game, max_y P(y > that winner, or an even mixture of
            the tied actions) - 1/2: its loss to its strongest opponent; zero where no action
            beats the winner.
    """

    context: str
    actions: tuple[str, ...]
    policy: tuple[float, ...]
    converged: bool
    remedy: str | None
    exploitability: float
    certificate: float
    equilibrium: tuple[float, ...] | None
    equilibrium_certificate: float
    kl_to_equilibrium: float | None
    kl_from_equilibrium: float | None
    iterations: int
    support: int
    plain_equilibrium: tuple[float, ...] | None
    plain_exploitability: float | None
    bradley_terry_winner: str | None
    bradley_terry_tied: tuple[str, ...]
    bradley_terry_loss: float | None
    bradley_terry_worst: float | None


def context_results(
    preferences: Preferences,
    problem: Problem,
    star: Tensor,
    log_pi: Tensor,
    iterations: int,
    without: Sequence[str] = (),
) -> list[ContextResult]:
    """Assemble the result of every context.

    Args:
        preferences: the contexts and actions.
        problem: their games in float64, whatever the precision of the method.
        star: log-probabilities of the oracle's policies, [C, K], float64; certified here.
        log_pi: log-probabilities of the method's policies, [C, K]; NaN where it diverged.
        iterations: number of steps taken.
        without: settings of the run that the search for a remedy drops; the remedy names them.
    """
    found = _results(preferences, problem, star, log_pi, iterations)
    if all(each.converged for each in found):
        return found
    remedy = find_remedy(problem, star) + (f", without {', '.join(without)}" if without else "")
    return [each if each.converged else replace(each, remedy=remedy) for each in found]


def _results(
    preferences: Preferences, problem: Problem, star: Tensor, log_pi: Tensor, iterations: int
) -> list[ContextResult]:
    P, log_mu, tau = problem.P, problem.log_mu, problem.tau
    log_pi = log_pi.double()
    policies = log_pi.exp()
    f = exploitability.unchecked(P, log_pi, log_mu, tau)
    bound = certificate_with_rounding(P, log_pi, log_mu, tau)
    star_bound = certificate_with_rounding(P, star, log_mu, tau)
    there, back = kl.unchecked(log_pi, star), kl.unchecked(star, log_pi)
    best, loss, worst = _bradley_terry(preferences, problem, star)
    found = []
    for i, context in enumerate(preferences.contexts):
        certified = bool(star_bound[i] <= CONVERGED)
        played = torch.isfinite(log_mu[i])
        plain, worth = _plain(P[i], played)
        top = [preferences.actions[int(a)] for a in best[i].nonzero()]
        fitted = bool(top)
        found.append(
            ContextResult(
                context=context,
                actions=preferences.actions,
                policy=tuple(policies[i].tolist()),
                converged=bool(bound[i] <= CONVERGED),
                remedy=None,
                exploitability=float(f[i]),
                certificate=float(bound[i]),
                equilibrium=tuple(star[i].exp().tolist()) if certified else None,
                equilibrium_certificate=float(star_bound[i]),
                kl_to_equilibrium=float(there[i]) if certified else None,
                kl_from_equilibrium=float(back[i]) if certified else None,
                iterations=iterations,
                support=int((policies[i] >= SUPPORT).sum()),
                plain_equilibrium=None if plain is None else tuple(plain.exp().tolist()),
                plain_exploitability=worth,
                bradley_terry_winner=top[0] if len(top) == 1 else None,
                bradley_terry_tied=tuple(top) if len(top) > 1 else (),
                bradley_terry_loss=float(loss[i]) if certified and fitted else None,
                bradley_terry_worst=float(worst[i]) if fitted else None,
            )
        )
    return found


def _bradley_terry(
    preferences: Preferences, problem: Problem, star: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The actions with the largest reward [C, K], and their losses in both games, [C]."""
    P, log_mu, tau = problem.P, problem.log_mu, problem.tau
    played = torch.isfinite(log_mu)
    rewards = limiting_rewards(P, preferences.counts, _played_or_uncompared(preferences, played))
    largest = rewards.masked_fill(~played, -torch.inf).amax(-1, keepdim=True)
    best = played & (rewards >= largest - TIE)
    tilted = torch.log_softmax(log_mu + rewards / tau[:, None], -1)
    loss = payoff.unchecked(P, star, tilted, log_mu, tau) - 0.5
    evenly = (best.to(P) / best.sum(-1, keepdim=True)).log()
    worst = winning(P, evenly).masked_fill(~played, 0.5).amax(-1) - 0.5
    return best, loss.clamp_min(0.0), worst.clamp_min(0.0)


def _played_or_uncompared(preferences: Preferences, played: Tensor) -> Tensor:
    """The actions played, and those that occur in a context without any comparison, [C, K]."""
    mask, present = played.clone(), preferences.present
    for context, *pair in preferences.never_compared:
        row = preferences.contexts.index(context)
        for column in map(preferences.actions.index, pair):
            mask[row, column] |= not present[row, column]
    return mask


def _plain(P: Tensor, played: Tensor) -> tuple[Tensor | None, float | None]:
    """The maximal lottery among the actions played, log [K], and its exploitability.

    Both are None where linear programming fails.
    """
    whole = torch.full_like(P[0], -torch.inf)
    if int(played.sum()) == 1:
        return whole.masked_fill(played, 0.0), 0.0
    game = P[played][:, played]
    try:
        lottery = maximal_lotteries(game[None].cpu().numpy())[0]
    except InputError:
        return None, None
    found = torch.from_numpy(lottery).to(P).log()
    worst = 0.5 * float(nash_conv.unchecked(game, found))
    if not worst <= CONVERGED:
        return None, None
    whole[played] = found
    return whole, max(worst, 0.0)
