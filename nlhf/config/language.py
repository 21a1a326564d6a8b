"""The configs of language models, and what they describe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from bridge.config import Config, either, one_of
from bridge.distributed import launched
from bridge.optim import Optimizer
from bridge.schedules import course
from nlhf.algorithms.base import Schedule
from nlhf.config.fields import Count, Kind, Positive, Seed, Share
from nlhf.config.judges import JudgedConfig
from nlhf.config.methods import (
    idle_settings,
    method_config,
    method_settings,
    not_read,
    readers,
)
from nlhf.errors import InputError
from nlhf.language.adapters import Lora
from nlhf.language.decoders import CacheKind
from nlhf.language.decoding import Sampling
from nlhf.language.objectives import OBJECTIVES, Objective, get_objective
from nlhf.language.quantising import Bits
from nlhf.language.reading.sifting import OnBadLines
from nlhf.language.reference import Reference
from nlhf.schedules import schedule


class GenerationConfig(Config):
    """How answers are drawn; see `nlhf.language.decoding.Sampling`.

    Attributes:
        min_new_tokens: smallest number of tokens before an answer may end.
        cache: auto decodes with recorded steps and caches of fixed length on a GPU, if the model
            allows it; static uses such caches also on a CPU; dynamic always uses growing caches.
    """

    described_by: ClassVar[tuple[Any, ...]] = (Sampling,)

    max_new_tokens: Count = 32
    temperature: Positive = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Positive = 1.0
    min_new_tokens: Annotated[int, Field(ge=0)] = 0
    cache: CacheKind = "auto"

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.min_new_tokens >= self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens={self.min_new_tokens} must be below max_new_tokens="
                f"{self.max_new_tokens}"
            )
        return self


class LoraConfig(Config):
    """A low-rank adapter; rank 0 learns all weights.

    Attributes:
        rank: rank of the LoRA adapter; 0 trains all weights, or those of an adapter that is loaded.
        dropout: probability with which an input of the adapter is dropped in passes that make the
            gradient. Answers and evaluations always come from the whole policy.
    """

    described_by: ClassVar[tuple[Any, ...]] = (Lora,)

    rank: Annotated[int, Field(ge=0)] = 0
    alpha: Positive = 16.0
    targets: tuple[str, ...] = ()
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def made(self) -> Lora | None:
        """The adapter; None where all weights learn."""
        return Lora(self.rank, self.alpha, self.targets) if self.rank else None

    def idle(self) -> dict[str, str]:
        why = "without lora.rank, with which all weights learn; give it too"
        return {} if self.rank else {"alpha": why, "targets": why}


class LanguageOptimizerConfig(Config):
    """How parameters follow the gradient; see `bridge.optim.Optimizer`.

    Attributes:
        method: update rule of the optimizer.
        learning_rate: learning rate of the first step, before the schedule.
        momentum: decay of the velocity.
        schedule: schedule of the learning rate over the run; see `bridge.schedules`.
        warmup_steps: number of steps over which the rate rises to its full value.
    """

    described_by: ClassVar[tuple[Any, ...]] = (Optimizer,)

    method: Literal["sgd", "momentum", "adam"] = "adam"
    learning_rate: Positive = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "cosine", "linear", "step", "inverse"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Positive | None = 1.0

    def idle(self) -> dict[str, str]:
        if self.method == "momentum":
            return {}
        return {"momentum": f"with method={self.method}; it is read with method=momentum"}


class ObjectiveOptimizerConfig(LanguageOptimizerConfig):
    """The same, and the learning rate of a learned baseline.

    Attributes:
        value_learning_rate: learning rate of a learned baseline.
    """

    value_learning_rate: Positive = 1e-3


def _language_algorithm(name: str) -> str:
    if name not in OBJECTIVES:
        raise InputError(f"use one of {', '.join(OBJECTIVES)} for a language model")
    return name


CUTS = ("top_k", "top_p", "min_p", "repetition_penalty")
"""Settings of the generation that cut distributions of tokens."""
_COMMON = ("tau", "mixture", "samples", "opponents", "kl", "baseline", "ema_rate")
"""Fields of objectives that are settings of their own."""
if TYPE_CHECKING:

    class MethodConfig(Config):
        """Settings of single objectives."""

else:
    MethodConfig = method_config(OBJECTIVES, _COMMON)


class LanguageConfig(JudgedConfig):
    """A run of one objective on a language model; see `nlhf.language.objectives`.

    `method` has the settings of single objectives.

    Attributes:
        model: the model to train: a folder, a hub name, smollm2, or tiny:WORD,WORD,... for a random
            model.
        prompts: a file of prompts, as JSON lines or in another supported layout.
        reward: the reward for rlhf: reward:MODEL, module:function or a Bradley-Terry folder; that
            of the preference model if not set.
        algorithm: the objective; see `nlhf.language.objectives`.
        tau: weight of KL(policy, reference).
        tau_start: tau at the first step; it changes from there to `tau`. Constant if not set.
        tau_schedule: how tau changes from `tau_start` to `tau`.
        mixture: weight of the reference in the opponent of nash-md and of online-ipo.
        mixture_start: the mixture weight at the first step; it changes from there to `mixture`.
            Constant if not set.
        mixture_schedule: how the mixture weight changes from `mixture_start` to `mixture`.
        samples: number of answers of the policy per prompt.
        opponents: number of answers of the opponent per prompt.
        kl: estimator of the divergence in a token's score: from the log-ratios of this and all
            later tokens, or from whole distributions, which has less variance.
        baseline: baseline that is subtracted from a score: 1/2, the mean of the other answers, or a
            value learned from the hidden states.
        ema_rate: rate at which the moving average of nash-ema follows the policy, per step.
        reference: whether the reference is fixed, or follows the policy as a moving average.
        reference_every: number of steps after which the policy replaces the reference; 0 means
            never. The default of the algorithm if not set.
        reference_rate: rate at which a moving reference follows the policy, per step.
        iterations: number of steps of the optimizer.
        batch_size: number of prompts per pass, over all processes.
        accumulation: number of passes per step.
        precision: dtype of the weights.
        quantise: store the weights of the base below an adapter in 4 or 8 bits; needs the extra
            quantised. Not packed if not set.
        mixed_precision: whether to compute the scoring passes in bfloat16.
        chat: whether to put prompts into the chat template of the tokenizer, if it has one.
        end_token: the token that ends an answer, if the tokenizer does not define it.
        shard: how processes share a model: as copies, or in shards.
        measure_exact: whether to list all answers of a tiny language, and compare the policy with
            the oracle.
        on_bad_lines: whether a file with malformed lines is an error, or the lines are skipped and
            counted.
        missing_end_penalty: penalty that is subtracted from an answer that does not end, and added
            to the other one.
        max_prompt_tokens: largest number of tokens of a prompt; no limit if not set.
        truncate: what to do with longer prompts: stop with an error, or cut their left or right
            end.
        sampler: own draws every answer here. vllm draws whole answers of the policy, or of the
            reference alone, by vLLM in this process, and those of the mixture here.
        vllm_memory: share of the GPU's memory that vLLM takes.
        gradient_checkpointing: whether to recompute layers in the backward pass to save memory.
        eval_prompts: a file of prompts on which P(policy > reference) is measured.
        eval_every: number of steps between these measurements; if not set, only before the first
            and after the last step.
        report_to: services that receive every record as it is written.
        push_to_hub: the hub repository to which the policy and its card are uploaded at the end.
        log_every: number of steps between rows of the log.
        seed: seed of the order of the prompts, the answers and new weights.
    """

    length: ClassVar[str] = "iterations"

    model: str
    prompts: str
    reward: str | None = None
    algorithm: Annotated[str, one_of(OBJECTIVES), AfterValidator(_language_algorithm)] = "nash-md"
    tau: Positive = 0.1
    tau_start: Positive | None = None
    tau_schedule: Kind = "geometric"
    mixture: Share = 0.125
    mixture_start: Share | None = None
    mixture_schedule: Kind = "linear"
    samples: Count = 2
    opponents: Count = 1
    kl: Literal["reward-to-go", "full"] = "reward-to-go"
    baseline: Literal["half", "leave-one-out", "learned"] = "leave-one-out"
    ema_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    method: MethodConfig = MethodConfig()
    reference: Literal["fixed", "ema"] = "fixed"
    reference_every: Annotated[int, Field(ge=0)] | None = None
    reference_rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    iterations: Count = 100
    batch_size: Count = 8
    accumulation: Count = 1
    generation: GenerationConfig = GenerationConfig()
    lora: LoraConfig = LoraConfig()
    optimizer: ObjectiveOptimizerConfig = ObjectiveOptimizerConfig()
    precision: Literal["float32", "float64", "bfloat16"] = "float32"
    quantise: Bits | None = None
    mixed_precision: bool = False
    chat: bool = True
    end_token: str | None = None
    shard: Literal["ddp", "fsdp"] = "ddp"
    measure_exact: bool = False
    on_bad_lines: OnBadLines = "error"
    missing_end_penalty: Annotated[float, Field(ge=0)] = 0.0
    max_prompt_tokens: Count | None = None
    truncate: Literal["refuse", "left", "right"] = "refuse"
    sampler: Literal["own", "vllm"] = "own"
    vllm_memory: Annotated[float, Field(gt=0, lt=1)] = 0.3
    gradient_checkpointing: bool = False
    eval_prompts: str | None = None
    eval_every: Count | None = None
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    push_to_hub: str | None = None
    log_every: Count = 1
    seed: Seed = 0

    def specs(self) -> list[str]:
        return [self.preference, *([] if self.reward is None else [self.reward])]

    def courses(self, steps: int) -> Mapping[str, Schedule]:
        found = course(self.optimizer.schedule, steps, self.optimizer.warmup_steps)
        for name in ("tau", "mixture"):
            start, end = getattr(self, f"{name}_start"), getattr(self, name)
            way = getattr(self, f"{name}_schedule")
            if start not in (None, end) and way != "constant":
                found[f"{name}_schedule={way}"] = schedule(way, start, end, steps)
        return found

    def idle(self) -> dict[str, str]:
        found = super().idle() | idle_precision(self.precision)
        if not launched():
            found["shard"] = "in one process; it is read in several, which torchrun starts"
        if self.tau_start is None:
            found["tau_schedule"] = "without tau_start; give it too"
        if self.mixture_start is None:
            found["mixture_schedule"] = "without mixture_start; give it too"
        if self.reference == "ema":
            found["reference_every"] = "with reference=ema, which moves after every step"
        else:
            found["reference_rate"] = "without reference=ema; give it too"
        if self.eval_prompts is None:
            found["eval_every"] = "without eval_prompts; give them too"
        if self.sampler != "vllm":
            found["vllm_memory"] = "without sampler=vllm; give it too"
        if self.max_prompt_tokens is None:
            found["truncate"] = "without max_prompt_tokens; give it too"
        chosen = OBJECTIVES[self.algorithm]
        if not (chosen.reads_tau or self.measure_exact):
            users = [name for name, kind in OBJECTIVES.items() if kind.reads_tau]
            why = not_read(self.algorithm, users)
            found |= dict.fromkeys(("tau", "tau_start", "tau_schedule"), why)
        elif not chosen.reads_tau:
            why = "where tau is that of the measures alone; give tau"
            found |= dict.fromkeys(("tau_start", "tau_schedule"), why)
        groups = {"mixture": ("mixture", "mixture_start", "mixture_schedule")}
        for field in _COMMON[1:]:
            users = readers(OBJECTIVES, field)
            if self.algorithm not in users:
                keys = groups.get(field, (field,))
                found |= dict.fromkeys(keys, not_read(self.algorithm, users))
        if not chosen.reads_cuts:
            users = [name for name, kind in OBJECTIVES.items() if kind.reads_cuts]
            why = (
                f"with algorithm={self.algorithm}, which draws every answer whole, because its "
                f"loss takes all of them; it is read with algorithm={either(users)}"
            )
            found |= dict.fromkeys((f"generation.{name}" for name in CUTS), why)
        if not chosen.needs_reward:
            users = [name for name, kind in OBJECTIVES.items() if kind.needs_reward]
            found["reward"] = not_read(self.algorithm, users)
        if "baseline" in found or self.baseline != "learned":
            found["optimizer.value_learning_rate"] = "without baseline=learned"
        return found | idle_settings(self.method, self.algorithm, OBJECTIVES)


def idle_precision(precision: str) -> dict[str, str]:
    """What has no effect on weights of that dtype."""
    if precision != "float64":
        return {}
    why = "with precision=float64, which autocast leaves alone; it is read with float32 or bfloat16"
    return {"mixed_precision": why}


def make_objective(config: LanguageConfig) -> Objective:
    """The objective with its schedules.

    Raises:
        InputError: settings that do not fit together.
    """
    steps = config.iterations
    tau_start = config.tau if config.tau_start is None else config.tau_start
    mixture_start = config.mixture if config.mixture_start is None else config.mixture_start
    mixture_schedule = "constant" if mixture_start == config.mixture else config.mixture_schedule
    kind: Any = get_objective(config.algorithm)
    known = {
        "tau": schedule(config.tau_schedule, tau_start, config.tau, steps),
        "mixture": schedule(mixture_schedule, mixture_start, config.mixture, steps),
    }
    known |= {name: getattr(config, name) for name in _COMMON if name not in known}
    fields = {field.name for field in dataclasses.fields(kind)}
    settings = {name: value for name, value in known.items() if name in fields}
    return kind(**settings, **method_settings(config.method))


def make_movement(config: LanguageConfig) -> Reference:
    """Whether and how the reference moves."""
    every = config.reference_every
    if every is None:
        moves = OBJECTIVES[config.algorithm].moves_reference
        every = moves if config.reference == "fixed" else 0
    return Reference(config.reference, every, config.reference_rate)


def make_sampling(config: GenerationConfig) -> Sampling:
    """How training draws answers."""
    return Sampling(
        config.max_new_tokens,
        config.temperature,
        config.top_k,
        config.top_p,
        config.min_p,
        config.repetition_penalty,
    )


def make_language_optimizer(
    chosen: LanguageOptimizerConfig, parameters: Mapping[str, Tensor], steps: int
) -> Optimizer:
    """The optimizer of a policy's trainable parameters, for a run of so many steps."""
    return Optimizer(
        parameters,
        method=chosen.method,
        learning_rate=chosen.learning_rate,
        momentum=chosen.momentum,
        weight_decay=chosen.weight_decay,
        schedule=chosen.schedule,
        total_steps=steps,
        warmup_steps=chosen.warmup_steps,
        clip_norm=chosen.clip_norm,
    )
