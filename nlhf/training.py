"""The loops of `nash-md`, on tables and on language models: they turn steps into records.

They know nothing of the log.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bridge.checkpoint import loading, random_states, restore, set_random_states
from bridge.distributed import Group
from bridge.errors import RunFailed
from bridge.optim import Optimizer
from bridge.seeding import generator, seed_for
from nlhf.algorithms import AbstractAlgorithm, Problem, State, Votes
from nlhf.checks import check_game
from nlhf.config import (
    LanguageConfig,
    NashConfig,
    get_reward,
    make_algorithm,
    make_judge,
    make_language_optimizer,
    make_movement,
    make_objective,
    make_reference,
    make_sampling,
    read_preferences,
)
from nlhf.config.judges import Preference
from nlhf.errors import InputError
from nlhf.language.checkpointing import checkpoint_layers
from nlhf.language.decoders import Decoder
from nlhf.language.enumeration import measure_exactly
from nlhf.language.evaluation import evaluate
from nlhf.language.loading import Lora, load_policy
from nlhf.language.parallel import AbstractGroup, share_model
from nlhf.language.policy import Policy
from nlhf.language.prompts import Prompt
from nlhf.language.reading import Account, digest, read_prompts
from nlhf.language.records import EvaluationRecord, ExactRecord, LanguageRecord
from nlhf.language.trainer import Batching, Trainer
from nlhf.oracle import solve_equilibrium
from nlhf.outcome import ContextResult, context_results
from nlhf.preferences.base import Preferences
from nlhf.preferences.battles import Battles
from nlhf.schedules import schedule
from nlhf.tabular import MEASURES, measure

_NOT_IN_REMEDY = ("eta", "mixture", "votes", "tau_start")


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
class Run:
    """Everything that a run is made of, built from a config."""

    config: NashConfig
    preferences: Preferences
    problem: Problem
    algorithm: AbstractAlgorithm
    exact: Problem
    """The games in float64 and with exact feedback: what everything is measured on."""
    log_equilibrium: Tensor
    """Of `exact`, by the oracle; what it is worth, its certificate says."""
    battles: Battles | None = None
    """What the preferences were made from; None for a built-in game."""

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
    return Run(
        config,
        preferences,
        Problem(P.to(dtype), log_mu.to(dtype), tau.to(dtype), votes),
        make_algorithm(config),
        Problem(P, log_mu, tau),
        star,
        battles,
    )


@torch.no_grad()
def solve(
    run: Run,
    *,
    on_record: Callable[[StepRecord], None],
    on_policy: Callable[[int, Tensor], None] = lambda step, policy: None,
    advance: Callable[[int], None] = lambda steps: None,
    start: Mapping[str, Any] | None = None,
    after_step: Callable[[int, Callable[[], Any]], None] = lambda step, snapshot: None,
) -> list[ContextResult]:
    """Run the algorithm on all contexts at once.

    Args:
        run: what `build` made.
        on_record: given a record for each context at steps 1, every `log_every`-th and the last.
        on_policy: given the step and the policies [C, K] at the same steps.
        advance: told the number of steps done since it was told last.
        start: what a snapshot gave; from there on everything is as if nothing had happened.
        after_step: told the number of each step that is done and recorded, and a function that
            makes a snapshot of all that is needed to go on.

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


def _generators(run: Run) -> dict[str, torch.Generator]:
    votes = run.problem.votes
    return {} if votes is None else {f"votes-{i}": g for i, g in enumerate(votes.generators)}


def _snapshot(run: Run, state: State) -> dict[str, Any]:
    """All that the next step depends on."""
    return {
        "step": state.step,
        "log_pi": state.log_pi,
        "memory": state.memory,
        "random": random_states(**_generators(run)),
    }


def _restored(run: Run, state: State, saved: Mapping[str, Any]) -> State:
    """Put a run back to where a snapshot was made, given its state at the start.

    Raises:
        InputError: the snapshot is of another run.
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


@dataclass(frozen=True)
class LanguageRun:
    """Everything that a run on a language model is made of, built from a config."""

    config: LanguageConfig
    trainer: Trainer
    account: Account = field(default_factory=Account)  # how the prompts were read
    held_out: Sequence[Prompt] = ()  # prompts that only evaluations see

    @property
    def policy(self) -> Policy:
        """What learns."""
        return self.trainer.policy

    @property
    def source(self) -> dict[str, object]:
        """The prompts for the log: their source, how many, and its sha256."""
        name, prompts = self.config.prompts, len(self.trainer.prompts)
        return {"name": name, "sha256": digest(name), "prompts": prompts}


def build_language(
    config: LanguageConfig,
    device: torch.device | str = "cpu",
    group: AbstractGroup | None = None,
    preference: Preference | None = None,
) -> LanguageRun:
    """Load the model, the prompts and the preference that a config names.

    Args:
        config: of the run.
        device: where to compute.
        group: the processes that share the work; this one alone if None.
        preference: an object or a function that judges instead, see `get_judge`.

    Raises:
        InputError: one of them cannot be had, or settings do not fit together.
    """
    group = group or Group()
    objective, sampling = make_objective(config), make_sampling(config.generation)
    read = read_prompts(config.prompts, config.on_bad_lines)
    judge = make_judge(config, device, preference, group.size)
    reward = None
    if objective.needs_reward:
        reward = get_reward(config.reward, judge, device, config.sources)
    movement = make_movement(config)
    policy = load_policy(
        config.model,
        lora=Lora(**config.lora.model_dump()) if config.lora.rank else None,
        dtype=getattr(torch, config.precision),
        device=device,
        chat=config.chat,
        end_token=config.end_token,
        seed=seed_for(config.seed, "weights"),
        own_reference=movement.moves,
        shortest=config.generation.min_new_tokens,
    )
    policy.prompt_room = config.max_prompt_tokens
    policy.keeps = {"refuse": "refuse", "left": "end", "right": "start"}[config.truncate]
    if config.generation.min_new_tokens and not policy.end_ids:
        raise InputError(
            f"min_new_tokens={config.generation.min_new_tokens} has no effect on {config.model}, "
            "whose answers have no token that ends them; leave it out"
        )
    if config.gradient_checkpointing:
        checkpoint_layers(policy)
    policy.check_room(read.kept, sampling.max_new_tokens, config.prompts)
    held_out = ()
    if config.eval_prompts is not None:
        held_out = read_prompts(config.eval_prompts, config.on_bad_lines).kept
        policy.check_room(held_out, sampling.max_new_tokens, config.eval_prompts)
    share_model(policy, group, config.shard)
    value = value_optimizer = None
    if getattr(objective, "baseline", None) == "learned":
        value = nn.Linear(policy.config.hidden_size, 1).to(device)
        nn.init.zeros_(value.weight)
        nn.init.zeros_(value.bias)
        value_optimizer = Optimizer(
            dict(value.named_parameters()),
            method="adam",
            learning_rate=config.optimizer.value_learning_rate,
        )
    trainer = Trainer(
        policy=policy,
        prompts=read.kept,
        judge=judge,
        reward=reward,
        objective=objective,
        sampling=sampling,
        batching=Batching(
            config.batch_size,
            config.accumulation,
            torch.bfloat16 if config.mixed_precision else None,
            config.missing_end_penalty,
        ),
        optimizer=make_language_optimizer(config.optimizer, policy.trainable(), config.iterations),
        order=generator(config.seed, "prompts"),
        draws=generator(config.seed, "answers"),
        value=value,
        value_optimizer=value_optimizer,
        group=group,
        reference=movement,
        decoder=Decoder(config.generation.cache),
    )
    return LanguageRun(config, trainer, read.account, held_out)


def train_language(
    run: LanguageRun,
    *,
    on_record: Callable[[LanguageRecord], None],
    on_exact: Callable[[ExactRecord], None] = lambda record: None,
    on_evaluation: Callable[[EvaluationRecord], None] = lambda record: None,
    advance: Callable[[int, LanguageRecord], None] = lambda steps, record: None,
    start: Mapping[str, Any] | None = None,
    after_step: Callable[[int, Callable[[], Any]], None] = lambda step, snapshot: None,
) -> LanguageRecord:
    """Train for the config's iterations.

    Args:
        run: what `build_language` made; its policy learns in place.
        on_record: given the record of every `log_every`-th step and of the last.
        on_exact: given the exact measures at the same steps, with `measure_exact`.
        on_evaluation: given the measures on held-out prompts, if there are any, before the first
            step, at every `eval_every`-th and after the last.
        advance: told after each step, or how many were done before.
        start: what a snapshot gave, see `solve`.
        after_step: see `solve`.

    Raises:
        RunFailed: the loss is not finite.
    """
    config, trainer = run.config, run.trainer
    record: LanguageRecord | None = None
    if start is not None:
        with loading():
            trainer.load_state_dict(start["trainer"])
            set_random_states(start["random"])
            record = LanguageRecord(**start["record"])
        advance(trainer.steps, record)
    elif run.held_out:
        on_evaluation(_evaluated(run))
    while trainer.steps < config.iterations:
        measures = trainer.step()
        step = trainer.steps
        tokens = int(measures.pop("num_tokens"))
        record = LanguageRecord(step=step, num_tokens=tokens, **measures)
        if not math.isfinite(record.loss):
            raise RunFailed(
                f"the loss is {record.loss} at step {step}; use a smaller learning rate "
                "(--set optimizer.learning_rate=...)"
            )
        if step % config.log_every == 0 or step == config.iterations:
            on_record(record)
            if config.measure_exact:
                for number, measured in enumerate(measure_exactly(trainer, config.tau)):
                    on_exact(ExactRecord(step, number, *measured))
        due = config.eval_every is not None and step % config.eval_every == 0
        if run.held_out and (due or step == config.iterations):
            on_evaluation(_evaluated(run))
        advance(1, record)
        after_step(step, partial(_language_snapshot, trainer, record))
    assert record is not None
    return record


def _evaluated(run: LanguageRun) -> EvaluationRecord:
    trainer, config = run.trainer, run.config
    seed = seed_for(config.seed, "evaluation")
    return evaluate(trainer.rollout, run.held_out, config.samples, trainer.steps, seed)


def _language_snapshot(trainer: Trainer, record: LanguageRecord) -> dict[str, Any]:
    """All that the next step depends on, and the record of the last one."""
    return {"trainer": trainer.state_dict(), "random": random_states(), "record": vars(record)}
