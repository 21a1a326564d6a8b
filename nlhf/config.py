"""The typed configs of games, language models and preference models, and what they describe."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field, field_validator
from torch import Tensor

from bridge.config import Config
from bridge.optim import Optimizer
from bridge.seeding import generator, seed_for
from nlhf.algorithms import AbstractAlgorithm, get_algorithm
from nlhf.errors import InputError
from nlhf.language.comparisons import read_comparisons, split
from nlhf.language.decoding import Sampling
from nlhf.language.encoders import load_encoder
from nlhf.language.objectives import OPPONENTS, Objective
from nlhf.language.preference_models import PreferenceModel
from nlhf.language.preference_training import Fit
from nlhf.preferences.base import Preferences
from nlhf.schedules import schedule


def _algorithm(name: str) -> str:
    get_algorithm(name)
    return name


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Kind = Literal["constant", "linear", "geometric"]


class NashConfig(Config):
    """A run of one algorithm on the games of all contexts.

    `smoothing` 0, the default, takes the raw frequencies of the votes. `eta` left out is the
    theorem's 2 / (tau (t + 2)) for nash-md, nash-ema and self-play, and the method's own default
    elsewhere; likewise `mixture` is eta tau. A schedule goes from the value to `..._end`.
    """

    game: str = "sound-quality"
    smoothing: Annotated[float, Field(ge=0)] = 0.0
    reference: tuple[Share, ...] | None = None
    algorithm: Annotated[str, AfterValidator(_algorithm)] = "nash-md"
    tau: Positive = 0.1
    tau_start: Positive | None = None
    tau_schedule: Kind = "geometric"
    eta: Positive | None = None
    eta_end: Positive | None = None
    eta_schedule: Kind = "geometric"
    mixture: Share | None = None
    mixture_end: Share | None = None
    mixture_schedule: Kind = "linear"
    ema_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    iterations: Count = 1000
    votes: Count | None = None
    log_every: Count = 10
    dtype: Literal["float32", "float64"] = "float64"
    seed: Annotated[int, Field(ge=0)] = 0


def make_algorithm(config: NashConfig) -> AbstractAlgorithm:
    """The method, with those of the settings that it has.

    Raises:
        InputError: a setting that the method has not.
    """
    kind = get_algorithm(config.algorithm)
    known = {f.name for f in dataclasses.fields(kind)}
    settings: dict[str, object] = {}
    for name in ("eta", "mixture"):
        start, end = getattr(config, name), getattr(config, f"{name}_end")
        if start is None:
            continue
        if name not in known:
            raise InputError(f"{name}={start} has no meaning for {config.algorithm}; leave it out")
        settings[name] = start
        if end is not None:
            way = getattr(config, f"{name}_schedule")
            settings[name] = schedule(way, start, end, config.iterations)
    if "rate" in known:
        settings["rate"] = config.ema_rate
    return kind(**settings)


def make_reference(config: NashConfig, preferences: Preferences) -> Tensor:
    """The reference policies, uniform if none is given, as log-probabilities [C, K], float64.

    Actions that do not occur in a context have no probability there.

    Raises:
        InputError: not one probability an action, or they do not sum to 1.
    """
    k = len(preferences.actions)
    present = preferences.present.double()
    if config.reference is None:
        return (present / present.sum(-1, keepdim=True)).log()
    if len(config.reference) != k:
        raise InputError(f"reference has {len(config.reference)} probabilities for {k} actions")
    total = sum(config.reference)
    if abs(total - 1) > 1e-6:
        raise InputError(f"reference sums to {total:g}; it is no distribution unless that is 1")
    mu = torch.tensor(config.reference, dtype=torch.float64) * present
    if not bool((mu.sum(-1) > 0).all()):
        raise InputError("reference gives no probability to any action of some context")
    return (mu / mu.sum(-1, keepdim=True)).log()


class GenerationConfig(Config):
    """How answers are drawn; see `nlhf.language.decoding.Sampling`."""

    max_new_tokens: Count = 32
    temperature: Positive = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None


class LoraConfig(Config):
    """A low-rank adapter; rank 0 learns all weights."""

    rank: Annotated[int, Field(ge=0)] = 0
    alpha: Positive = 16.0
    targets: tuple[str, ...] = ()


class LanguageOptimizerConfig(Config):
    """How parameters follow the gradient; see `bridge.optim.Optimizer`."""

    method: Literal["sgd", "momentum", "adam"] = "adam"
    learning_rate: Positive = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Positive | None = 1.0
    value_learning_rate: Positive = 1e-3


def _language_algorithm(name: str) -> str:
    if name not in OPPONENTS:
        raise InputError(f"use one of {', '.join(OPPONENTS)} for a language model")
    return name


class LanguageConfig(Config):
    """A run of one objective on a language model; see `nlhf.language.objectives.Objective`.

    `tau` and `mixture` go from their `_start` to the value given, over all iterations, if a start
    is given. `precision` is the dtype of the weights, `mixed_precision` computes the scoring
    passes in bfloat16. `end_token` ends an answer where the tokenizer does not say. `measure_exact`
    lists all answers of a tiny language and measures the policy against the oracle.
    """

    model: str
    prompts: str
    preference: str
    reward: str | None = None
    algorithm: Annotated[str, AfterValidator(_language_algorithm)] = "nash-md"
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
    iterations: Count = 100
    batch_size: Count = 8
    accumulation: Count = 1
    generation: GenerationConfig = GenerationConfig()
    lora: LoraConfig = LoraConfig()
    optimizer: LanguageOptimizerConfig = LanguageOptimizerConfig()
    precision: Literal["float32", "float64", "bfloat16"] = "float32"
    mixed_precision: bool = False
    chat: bool = True
    end_token: str | None = None
    shard: Literal["ddp", "fsdp"] = "ddp"
    measure_exact: bool = False
    log_every: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0


def make_objective(config: LanguageConfig) -> Objective:
    """The objective with its schedules.

    Raises:
        InputError: settings that do not fit together.
    """
    steps = config.iterations
    tau_start = config.tau if config.tau_start is None else config.tau_start
    mixture_start = config.mixture if config.mixture_start is None else config.mixture_start
    mixture_schedule = "constant" if mixture_start == config.mixture else config.mixture_schedule
    return Objective(
        name=config.algorithm,
        tau=schedule(config.tau_schedule, tau_start, config.tau, steps),
        mixture=schedule(mixture_schedule, mixture_start, config.mixture, steps),
        samples=config.samples,
        opponents=config.opponents,
        kl=config.kl,
        baseline=config.baseline,
        ema_rate=config.ema_rate,
    )


def make_sampling(config: GenerationConfig) -> Sampling:
    """How training draws answers."""
    return Sampling(config.max_new_tokens, config.temperature, config.top_k, config.top_p)


def make_language_optimizer(config: LanguageConfig, parameters: dict[str, Tensor]) -> Optimizer:
    """The optimizer of the policy's trainable parameters."""
    chosen = config.optimizer
    return Optimizer(
        parameters,
        method=chosen.method,
        learning_rate=chosen.learning_rate,
        momentum=chosen.momentum,
        weight_decay=chosen.weight_decay,
        schedule=chosen.schedule,
        total_steps=config.iterations,
        warmup_steps=chosen.warmup_steps,
        clip_norm=chosen.clip_norm,
    )


class TournamentConfig(Config):
    """Which policies play, on what, before whom.

    `limit` takes the first prompts only; `draws` is answers a prompt. Cuts (`generation.top_k`,
    `generation.top_p`) hold for the answers, which no gradient is made of.
    """

    policies: tuple[str, ...]
    prompts: str
    preference: str
    limit: Count | None = None
    draws: Count = 1
    batch_size: Count = 8
    generation: GenerationConfig = GenerationConfig()
    chat: bool = True
    end_token: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("policies")
    @classmethod
    def _different(cls, policies: tuple[str, ...]) -> tuple[str, ...]:
        if len(policies) < 2:
            raise ValueError("give two or more, e.g. --policies A B")
        twice = [name for name in policies if policies.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is given twice; give each policy once")
        return policies


def make_cut_sampling(config: GenerationConfig) -> Sampling:
    """How a tournament draws answers: cuts hold for the policy's own."""
    return dataclasses.replace(make_sampling(config), truncate_own=True)


class PreferenceConfig(Config):
    """A preference model and how it is fitted.

    `model` is "hashed" (words, no download), a folder or a hub name; `tune` says what of it
    learns beside the head, at `learning_rate * encoder_rate`. The share `holdout` of the
    comparisons is only for the report; the share `check` of the others says which epoch is kept.
    `holdout_by` prompt keeps every prompt on one side.
    """

    pairs: str
    model: str = "hashed"
    head: Literal["pairwise", "skew-symmetric", "bradley-terry"] = "skew-symmetric"
    hidden: Count = 64
    planes: Count = 4
    tune: Literal["frozen", "lora", "full"] = "frozen"
    max_length: Annotated[int, Field(ge=16)] = 512
    epochs: Count = 10
    batch_size: Count = 32
    learning_rate: Positive = 1e-3
    encoder_rate: Positive = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    warmup: Share = 0.05
    clip_norm: Positive | None = 1.0
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    check: Annotated[float, Field(ge=0, lt=1)] = 0.1
    holdout_by: Literal["prompt", "pair"] = "prompt"
    log_every: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0


def make_fit(config: PreferenceConfig, device: torch.device | str = "cpu") -> Fit:
    """A training at its beginning.

    Raises:
        InputError: comparisons or encoder cannot be read, or none can be held out.
    """
    comparisons = read_comparisons(config.pairs)
    split_by = generator(config.seed, "held out")
    learn, held = split(comparisons, config.holdout, config.holdout_by, split_by)
    learn, check = split(learn, config.check, config.holdout_by, split_by)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(config.seed, "adapter"))
        encoder = load_encoder(config.model, config.max_length, config.tune)
    model = PreferenceModel(
        encoder,
        config.head,
        hidden=config.hidden,
        planes=config.planes,
        generator=generator(config.seed, "head"),
    ).to(device)
    steps = config.epochs * -(-len(learn) // config.batch_size)
    optimizer = Optimizer(
        model.learns(),
        method="adam",
        learning_rate=config.learning_rate,
        rates={"encoder.": config.encoder_rate} if config.tune != "frozen" else None,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        total_steps=steps,
        warmup_steps=round(config.warmup * steps),
        clip_norm=config.clip_norm,
    )

    def order(epoch: int) -> Tensor:
        return torch.randperm(len(learn), generator=generator(config.seed, f"epoch {epoch}"))

    return Fit(model, learn, check, held, optimizer, order, config.epochs, config.batch_size)
