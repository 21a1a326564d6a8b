"""The loop of `nash-md` on tables: it turns steps into records and knows nothing of files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bridge.errors import RunFailed
from bridge.seeding import generator
from nlhf.algorithms import AbstractAlgorithm, Problem, State, Votes
from nlhf.config import NashConfig, make_algorithm, make_reference
from nlhf.oracle import solve_equilibrium
from nlhf.preferences.base import Preferences
from nlhf.preferences.bradley_terry import fit_bradley_terry
from nlhf.preferences.reading import load_preferences
from nlhf.regularised_game import certificate, check_game, exploitability, kl, payoff, winning
from nlhf.schedules import schedule
from nlhf.tabular import MEASURES, measure

SUPPORT = 0.001
"""Probability from which an action is counted to the support of a policy."""


@dataclass(frozen=True)
class StepRecord:
    """One context after one step; `context` is its number, the names are in the log's meta.

    `kl_to_equilibrium` is KL(pi || pi*), which `certificate` bounds; `kl_from_equilibrium` is
    KL(pi* || pi), the distance of Theorem 1. `slack` is what the theorem's one-step inequality
    leaves; NaN where it does not apply.
    """

    step: int
    context: int
    exploitability: float
    certificate: float
    kl_to_equilibrium: float
    kl_from_equilibrium: float
    entropy: float
    slack: float


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


@dataclass(frozen=True)
class Run:
    """Everything that a run is made of, built from a config."""

    config: NashConfig
    preferences: Preferences
    problem: Problem
    algorithm: AbstractAlgorithm
    log_equilibrium: Tensor

    @property
    def source(self) -> dict[str, object]:
        """The data set for the log: name, sha256 of the win probabilities, contexts, actions."""
        table = self.preferences.P.contiguous().numpy().tobytes()
        return {
            "name": self.preferences.name,
            "sha256": hashlib.sha256(table).hexdigest(),
            "contexts": list(self.preferences.contexts),
            "actions": list(self.preferences.actions),
        }


def build(config: NashConfig, device: torch.device | str = "cpu") -> Run:
    """Make the plain objects that a config describes.

    Raises:
        InputError: the preferences cannot be read, or settings do not fit together.
        RunFailed: the oracle could not solve a game.
    """
    preferences = load_preferences(config.game, config.smoothing)
    dtype = getattr(torch, config.dtype)
    P = preferences.P.to(device, dtype)
    log_mu = make_reference(config, preferences).to(P)
    check_game(P, log_mu, config.tau)
    votes = None
    if config.votes is not None:
        votes = Votes(config.votes, (generator(config.seed, "votes", device),))
    tau = torch.full(P.shape[:1], config.tau, dtype=dtype, device=P.device)
    try:
        star = solve_equilibrium(P, log_mu, config.tau).to(dtype)
    except RuntimeError as error:
        raise RunFailed(f"the oracle: {error}, or use a larger tau") from None
    return Run(
        config,
        preferences,
        Problem(P, log_mu, tau, votes),
        make_algorithm(config),
        star,
    )


@torch.no_grad()
def solve(
    run: Run,
    *,
    on_record: Callable[[StepRecord], None],
    on_policy: Callable[[int, Tensor], None] = lambda step, policy: None,
    advance: Callable[[int], None] = lambda steps: None,
) -> list[ContextResult]:
    """Run the algorithm on all contexts at once.

    Args:
        run: what `build` made.
        on_record: given a record for each context at steps 1, every `log_every`-th and the last.
        on_policy: given the step and the policies [C, K] at the same steps.
        advance: told after each step.
    """
    config, problem = run.config, run.problem
    tau_at = schedule(
        config.tau_schedule, config.tau_start or config.tau, config.tau, config.iterations
    )
    state = run.algorithm.init(problem)
    for step in range(1, config.iterations + 1):
        before = state
        now = problem
        if config.tau_start is not None:
            now = dataclasses.replace(problem, tau=torch.full_like(problem.tau, tau_at(step - 1)))
        state = run.algorithm.step(now, state)
        if step == 1 or step % config.log_every == 0 or step == config.iterations:
            measured = measure(run.algorithm, problem, run.log_equilibrium, before, state)
            if config.tau_start is not None:
                measured[MEASURES.index("slack")] = torch.nan  # the theorem's tau is constant
            for record in _records(step, measured, problem.tau):
                on_record(record)
            on_policy(step, state.log_pi.exp())
        advance(1)
    return _results(run, state)


def _records(step: int, measured: Tensor, tau: Tensor) -> list[StepRecord]:
    rows = torch.cat((measured, (measured[0] / tau)[None])).T.tolist()
    return [
        StepRecord(step, context, f, bound, to_star, from_star, entropy, slack)
        for context, (f, to_star, from_star, entropy, slack, bound) in enumerate(rows)
    ]


def _results(run: Run, state: State) -> list[ContextResult]:
    problem, preferences = run.problem, run.preferences
    game = (problem.P, state.log_pi, problem.log_mu, problem.tau)
    f, bound = exploitability(*game), certificate(*game)
    distance = kl(state.log_pi, run.log_equilibrium)
    counts = None if preferences.counts is None else preferences.counts.to(problem.P)
    winner = fit_bradley_terry(problem.P, counts).argmax(-1)
    always = torch.full_like(state.log_pi, -torch.inf).scatter(-1, winner[:, None], 0.0)
    loss = payoff(problem.P, run.log_equilibrium, always, problem.log_mu, problem.tau) - 0.5
    worst = winning(problem.P, always.exp()).amax(-1) - 0.5
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
