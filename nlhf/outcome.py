"""What came out of a run of `nash-md` on tables, context by context."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nlhf.algorithms import Problem, State
from nlhf.preferences.base import Preferences
from nlhf.preferences.bradley_terry import fit_bradley_terry
from nlhf.regularised_game import certificate, exploitability, kl, payoff, winning

SUPPORT = 0.001
"""Probability from which an action is counted to the support of a policy."""


@dataclass(frozen=True)
class ContextResult:
    """The end of one context.

    Attributes:
        context, actions, policy: who, what and how often.
        exploitability: f(policy).
        certificate: bound on KL(policy || equilibrium) that needs no oracle.
        kl_to_equilibrium: KL(policy || equilibrium), by the oracle.
        iterations: steps taken.
        support: actions with probability of at least SUPPORT.
        bradley_terry_winner: the action of largest Bradley-Terry reward.
        bradley_terry_loss: P_tau(equilibrium > that action) - 1/2, what playing it always loses
            in the regularised game, >= 0.
        bradley_terry_worst: max_y P(y > that action) - 1/2, what the action that beats it best
            takes from it; zero where preferences have a best action.
    """

    context: str
    actions: tuple[str, ...]
    policy: tuple[float, ...]
    exploitability: float
    certificate: float
    kl_to_equilibrium: float
    iterations: int
    support: int
    bradley_terry_winner: str
    bradley_terry_loss: float
    bradley_terry_worst: float


def context_results(
    preferences: Preferences, problem: Problem, star: Tensor, state: State
) -> list[ContextResult]:
    """Tell of each context how its policy [C, K] ended; `star` is the oracle's, log [C, K]."""
    game = (problem.P, state.log_pi, problem.log_mu, problem.tau)
    f, bound = exploitability(*game), certificate(*game)
    distance = kl(state.log_pi, star)
    counts = None if preferences.counts is None else preferences.counts.to(problem.P)
    winner = fit_bradley_terry(problem.P, counts).argmax(-1)
    always = torch.full_like(state.log_pi, -torch.inf).scatter(-1, winner[:, None], 0.0)
    loss = payoff(problem.P, star, always, problem.log_mu, problem.tau) - 0.5
    worst = winning(problem.P, always).amax(-1) - 0.5
    policies = state.log_pi.exp()
    return [
        ContextResult(
            context=context,
            actions=preferences.actions,
            policy=tuple(policies[i].tolist()),
            exploitability=float(f[i]),
            certificate=float(bound[i]),
            kl_to_equilibrium=float(distance[i]),
            iterations=state.step,
            support=int((policies[i] >= SUPPORT).sum()),
            bradley_terry_winner=preferences.actions[int(winner[i])],
            bradley_terry_loss=float(loss[i]),
            bradley_terry_worst=float(worst[i]),
        )
        for i, context in enumerate(preferences.contexts)
    ]
