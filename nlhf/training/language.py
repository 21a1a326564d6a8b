"""The training loop of `nash-md` on language models: it produces records, independent of logs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from bridge.checkpoint import loading, random_states, set_random_states
from bridge.distributed import Group
from bridge.errors import RunFailed
from bridge.optim import Optimizer
from bridge.seeding import generator, seed_for
from nlhf.config import (
    LanguageConfig,
    get_reward,
    make_judge,
    make_language_optimizer,
    make_movement,
    make_objective,
    make_sampling,
)
from nlhf.config.judges import Preference
from nlhf.errors import InputError
from nlhf.language.checkpointing import checkpoint_layers
from nlhf.language.decoders import Decoder
from nlhf.language.enumeration import measure_exactly
from nlhf.language.evaluation import evaluate
from nlhf.language.loading import load_policy
from nlhf.language.objectives import Objective
from nlhf.language.parallel import AbstractGroup, distribute_model
from nlhf.language.policy import Policy
from nlhf.language.prompts import Prompt
from nlhf.language.reading import Account, digest, read_prompts
from nlhf.language.records import EvaluationRecord, ExactRecord, LanguageRecord
from nlhf.language.trainer import Batching, Trainer
from nlhf.language.vllm_sampling import has_whole_rows, start_vllm


@dataclass(frozen=True)
class LanguageRun:
    """All parts of a run on a language model, built from a config."""

    config: LanguageConfig
    trainer: Trainer
    account: Account = field(default_factory=Account)  # how the prompts were read
    held_out: Sequence[Prompt] = ()  # prompts that only evaluations see

    @property
    def policy(self) -> Policy:
        """The policy being trained."""
        return self.trainer.policy

    @property
    def source(self) -> dict[str, object]:
        """The prompts for the log: their source, their number and its sha256."""
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
        config: the run's config.
        device: where to compute.
        group: the processes that share the work; None means this one alone.
        preference: an object or a function that judges instead, see `get_judge`.

    Raises:
        InputError: a part cannot be loaded, or settings do not fit together.
    """
    group = group or Group()
    objective, sampling = make_objective(config), make_sampling(config.generation)
    read = read_prompts(config.prompts, config.on_bad_lines)
    judge = make_judge(config, device, preference, group.size)
    reward = None
    if objective.needs_reward:
        reward = get_reward(config.reward, judge, device, config.sources)
    movement = make_movement(config)
    policy = _learner(config, device, group, own_reference=movement.moves)
    policy.check_room(read.kept, sampling.max_new_tokens, config.prompts)
    held_out = ()
    if config.eval_prompts is not None:
        held_out = read_prompts(config.eval_prompts, config.on_bad_lines).kept
        policy.check_room(held_out, sampling.max_new_tokens, config.eval_prompts)
    distribute_model(policy, group, config.shard)
    value = value_optimizer = None
    if getattr(objective, "baseline", None) == "learned":
        value = _baseline(policy, device)
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
        batching=_batching(config),
        optimizer=make_language_optimizer(config.optimizer, policy.trainable(), config.iterations),
        order=generator(config.seed, "prompts"),
        draws=generator(config.seed, "answers"),
        value=value,
        value_optimizer=value_optimizer,
        group=group,
        reference=movement,
        decoder=_decoder(config, objective, policy, [*read.kept, *held_out], group),
    )
    return LanguageRun(config, trainer, read.account, held_out)


def _learner(
    config: LanguageConfig,
    device: torch.device | str,
    group: AbstractGroup,
    *,
    own_reference: bool,
) -> Policy:
    """Load the policy to be trained.

    Raises:
        InputError: it cannot be loaded, or does not fit the settings.
    """
    policy = load_policy(
        config.model,
        lora=config.lora.made(),
        dtype=getattr(torch, config.precision),
        device=device,
        chat=config.chat,
        end_token=config.end_token,
        seed=seed_for(config.seed, "weights"),
        own_reference=own_reference,
        shortest=config.generation.min_new_tokens,
        quantise=config.quantise,
    )
    if config.lora.dropout:
        drops = generator(config.seed, "dropout")
        shared: dict[str, Any] = {"processes": group.size, "part": group.own_part}
        policy.drop_inputs(config.lora.dropout, drops, **shared)
    policy.prompt_room = config.max_prompt_tokens
    policy.keeps = {"refuse": "refuse", "left": "end", "right": "start"}[config.truncate]
    if config.generation.min_new_tokens and not policy.end_ids:
        raise InputError(
            f"min_new_tokens={config.generation.min_new_tokens} has no effect on {config.model}, "
            "whose answers have no token that ends them; leave it out"
        )
    if config.gradient_checkpointing:
        checkpoint_layers(policy)
    return policy


def _decoder(
    config: LanguageConfig,
    objective: Objective,
    policy: Policy,
    prompts: Sequence[Prompt],
    group: AbstractGroup,
) -> Decoder:
    """What draws the answers.

    Raises:
        InputError: vLLM cannot draw those of this run.
    """
    decoder = Decoder(config.generation.cache)
    if config.sampler == "own":
        return decoder
    if group.size > 1:
        raise InputError(f"sampler=vllm is for one process, and there are {group.size}")
    if config.precision == "float64":
        raise InputError("sampler=vllm has no float64; set precision to float32 or bfloat16")
    sampling = make_sampling(config.generation)
    plans = [objective.plan(step) for step in (0, config.iterations - 1)]
    if not any(has_whole_rows(plan, sampling) for plan in plans):
        raise InputError(
            f"sampler=vllm has no effect with algorithm={config.algorithm}, whose answers all come "
            "from the mixture, which is decoded here; leave it out"
        )
    coarse = config.mixed_precision or config.precision == "bfloat16"
    settings: dict[str, Any] = {
        "memory": config.vllm_memory,
        "dtype": "bfloat16" if coarse else "float32",
    }
    kept = random_states()  # vLLM seeds the global generators
    try:
        return start_vllm(policy, prompts, sampling, decoder, **settings)
    finally:
        set_random_states(kept)


def _batching(config: LanguageConfig) -> Batching:
    return Batching(
        config.batch_size,
        config.accumulation,
        torch.bfloat16 if config.mixed_precision else None,
        config.missing_end_penalty,
    )


def _baseline(policy: Policy, device: torch.device | str) -> nn.Linear:
    """The untrained learned baseline, which maps hidden states to 0."""
    value = nn.Linear(policy.config.hidden_size, 1).to(device)
    nn.init.zeros_(value.weight)
    nn.init.zeros_(value.bias)
    return value


def train_language(
    run: LanguageRun,
    *,
    on_record: Callable[[LanguageRecord], None],
    on_exact: Callable[[ExactRecord], None] = lambda record: None,
    on_evaluation: Callable[[EvaluationRecord], None] = lambda record: None,
    advance: Callable[[int, LanguageRecord], None] = lambda steps, record: None,
    start: Mapping[str, Any] | None = None,
    after_step: Callable[[int, Callable[[], dict[str, Any]]], None] = lambda step, snapshot: None,
) -> LanguageRecord:
    """Train for the number of iterations in the config.

    Args:
        run: result of `build_language`; its policy is trained in place.
        on_record: called with the record of every `log_every`-th step and of the last.
        on_exact: called with the exact measures at the same steps, with `measure_exact`.
        on_evaluation: called with the measures on held-out prompts, if there are any, before the
            first step, at every `eval_every`-th and after the last.
        advance: called after each step, and once with the number of steps done before.
        start: a snapshot to resume from, see `train_tables`.
        after_step: see `train_tables`.

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
        after_step(step, partial(_snapshot, trainer, record))
    assert record is not None
    return record


def _evaluated(run: LanguageRun) -> EvaluationRecord:
    trainer, config = run.trainer, run.config
    seed = seed_for(config.seed, "evaluation")
    return evaluate(trainer.rollout, run.held_out, config.samples, trainer.steps, seed)


def _snapshot(trainer: Trainer, record: LanguageRecord) -> dict[str, Any]:
    """Everything that the next step depends on, and the last record."""
    return {"trainer": trainer.state_dict(), "random": random_states(), "record": vars(record)}
