"""The training loop of `nash-md` on tables: it produces records, independent of logs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bridge.checkpoint import loading, random_states, restore, set_random_states
from bridge.seeding import generator
from nlhf.algorithms import AbstractAlgorithm, Problem, State, Votes
from nlhf.checks import check_game
from nlhf.config import NashConfig, make_algorithm, make_reference, read_preferences
from nlhf.oracle import solve_equilibrium
from nlhf.outcome import ContextResult, context_results
from nlhf.preferences.base import Preferences
from nlhf.preferences.battles import Battles
from nlhf.schedules import schedule
from nlhf.tabular import MEASURES, measure

_NOT_IN_REMEDY = ("eta", "mixture", "votes", "tau_start")


@dataclass(frozen=True)
class StepRecord:
    """One context after one step; `context` is its index, and the log's meta has the names.

    `kl_to_equilibrium` is KL(pi || pi*), which `certificate` bounds. `kl_from_equilibrium` is
    KL(pi* || pi), the distance in Theorem 1. `slack` is the slack in the theorem's one-step
    inequality; NaN where it does not apply.
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
class TableRun:
    """All parts of a run, built from a config."""

    config: NashConfig
    preferences: Preferences
    problem: Problem
    algorithm: AbstractAlgorithm
    exact: Problem
    """The games in float64 with exact feedback, on which everything is measured."""
    log_equilibrium: Tensor
    """The oracle's policies for `exact`; their certificate gives their quality."""
    battles: Battles | None = None
    """The data behind the preferences; None for a built-in game."""

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


def build_tables(config: NashConfig, device: torch.device | str = "cpu") -> TableRun:
    """Build the plain objects that a config describes.

    Raises:
        InputError: the preferences cannot be read, or settings do not fit together.
    """
    preferences, battles = read_preferences(config)
    P = preferences.P.to(device)
    log_mu = make_reference(config, preferences).to(P)
    check_game(P, log_mu, config.tau)
    votes = None
    if config.votes is not None:
        votes = Votes(config.votes, (generator(config.seed, "votes", device),))
    tau = torch.full(P.shape[:1], config.tau, dtype=P.dtype, device=P.device)
    dtype = getattr(torch, config.dtype)
    star = solve_equilibrium(P, log_mu, config.tau, throw=False)
    return TableRun(
        config,
        preferences,
        Problem(P.to(dtype), log_mu.to(dtype), tau.to(dtype), votes),
        make_algorithm(config),
        Problem(P, log_mu, tau),
        star,
        battles,
    )


@torch.no_grad()
def train_tables(
    run: TableRun,
    *,
    on_record: Callable[[StepRecord], None],
    on_policy: Callable[[int, Tensor], None] = lambda step, policy: None,
    advance: Callable[[int], None] = lambda steps: None,
    start: Mapping[str, Any] | None = None,
    after_step: Callable[[int, Callable[[], dict[str, Any]]], None] = lambda step, snapshot: None,
) -> list[ContextResult]:
    """Run the algorithm on all contexts at once.

    Args:
        run: result of `build_tables`.
        on_record: called with a record for each context at step 1, every `log_every`-th step and
            the last.
        on_policy: called with the step and the policies [C, K] at the same steps.
        advance: called with the number of steps done since the last call.
        start: a snapshot; the run continues as if it had never stopped.
        after_step: called after each recorded step with its number and a function that makes a
            snapshot of everything needed to continue.

    Raises:
        InputError: `start` does not fit the run.
    """
    config, problem = run.config, run.problem
    tau_at = schedule(
        config.tau_schedule, config.tau_start or config.tau, config.tau, config.iterations
    )
    state = run.algorithm.init(problem)
    if start is not None:
        with loading():
            state = _restored(run, state, start)
        advance(state.step)
    for step in range(state.step + 1, config.iterations + 1):
        before = state
        now = problem
        if config.tau_start is not None:
            now = replace(problem, tau=torch.full_like(problem.tau, tau_at(step - 1)))
        state = run.algorithm.step(now, state)
        if step == 1 or step % config.log_every == 0 or step == config.iterations:
            then, there = (replace(s, log_pi=s.log_pi.double()) for s in (before, state))
            measured = measure(run.algorithm, run.exact, run.log_equilibrium, then, there)
            if config.tau_start is not None:
                measured[MEASURES.index("slack")] = torch.nan  # the theorem's tau is constant
            for record in _records(step, measured, run.exact.tau):
                on_record(record)
            on_policy(step, state.log_pi.exp())
        advance(1)
        after_step(step, partial(_snapshot, run, state))
    given = [name for name in _NOT_IN_REMEDY if getattr(config, name) is not None]
    return context_results(
        run.preferences, run.exact, run.log_equilibrium, state.log_pi, state.step, without=given
    )


def _generators(run: TableRun) -> dict[str, torch.Generator]:
    votes = run.problem.votes
    return {} if votes is None else {f"votes-{i}": g for i, g in enumerate(votes.generators)}


def _snapshot(run: TableRun, state: State) -> dict[str, Any]:
    """Everything that the next step depends on."""
    return {
        "step": state.step,
        "log_pi": state.log_pi,
        "memory": state.memory,
        "random": random_states(**_generators(run)),
    }


def _restored(run: TableRun, state: State, saved: Mapping[str, Any]) -> State:
    """Restore a run to a snapshot, given its initial state.

    Raises:
        InputError: the snapshot belongs to another run.
    """
    log_pi = torch.empty_like(state.log_pi)
    restore({"log_pi": log_pi}, {"log_pi": saved["log_pi"]})
    set_random_states(saved["random"], **_generators(run))
    memory = {name: tensor.to(log_pi.device) for name, tensor in saved["memory"].items()}
    return State(log_pi, int(saved["step"]), memory)


def _records(step: int, measured: Tensor, tau: Tensor) -> list[StepRecord]:
    rows = torch.cat((measured, (measured[0] / tau)[None])).T.tolist()
    return [
        StepRecord(step, context, f, bound, to_star, from_star, entropy, slack)
        for context, (f, to_star, from_star, entropy, slack, bound) in enumerate(rows)
    ]
