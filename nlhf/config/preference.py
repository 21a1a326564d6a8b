"""The config of preference models, and the training that it describes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from bridge.config import Config
from bridge.optim import Optimizer
from bridge.schedules import Schedule, learning_rate_schedule
from bridge.seeding import generator, seed_for
from nlhf.config.fields import Count, Positive, Seed, Share
from nlhf.language.comparisons import Comparison, split
from nlhf.language.encoders import load_encoder
from nlhf.language.pair_facts import sift
from nlhf.language.preference_models import PreferenceModel
from nlhf.language.preference_training import Fit
from nlhf.language.reading import read_comparisons
from nlhf.language.reading.sifting import OnBadLines


class PreferenceConfig(Config):
    """A preference model and how it is fitted.

    Attributes:
        pairs: a file of comparisons, in one of the layouts of docs/preference-data.md.
        model: what reads the texts: hashed (words, no download), a folder or a hub name.
        head: what makes a preference of what was read; see `nlhf.language.preference_models`.
        hidden: units of the head's hidden layer.
        planes: pairs of coordinates in which cycles can go round.
        tune: what of the model learns beside the head.
        max_length: tokens of a row; what is longer is cut.
        epochs: passes over the comparisons.
        batch_size: comparisons a step.
        learning_rate: rate of the head's first step.
        encoder_rate: multiplier of it for what of the model learns.
        weight_decay: decoupled, of all that learns.
        schedule: how the rate goes over the run.
        warmup: share of the run over which the rate rises to its full value.
        clip_norm: largest Euclidean norm of all gradients together; no limit if not set.
        holdout: share of the comparisons that is only for the report.
        check: share of the others that says which epoch is kept.
        holdout_by: hold out whole prompts, or single pairs.
        on_bad_lines: refuse a file with malformed lines, or skip and count them.
        log_every: steps between rows of the log.
        seed: decides new weights, what is held out, and the order.
    """

    length: ClassVar[str] = "epochs"

    pairs: str
    model: str = "hashed"
    head: Literal["pairwise", "skew-symmetric", "bradley-terry"] = "skew-symmetric"
    hidden: Count = 256
    planes: Count = 4
    tune: Literal["frozen", "lora", "full"] = "frozen"
    max_length: Annotated[int, Field(ge=16)] = 512
    epochs: Count = 5
    batch_size: Count = 32
    learning_rate: Positive = 3e-4
    encoder_rate: Positive = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    warmup: Share = 0.05
    clip_norm: Positive | None = 1.0
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    check: Annotated[float, Field(ge=0, lt=1)] = 0.1
    holdout_by: Literal["prompt", "pair"] = "prompt"
    on_bad_lines: OnBadLines = "error"
    log_every: Count = 1
    seed: Seed = 0

    def courses(self, steps: int) -> Mapping[str, Schedule]:
        told = f"schedule={self.schedule}"
        if self.schedule == "constant":
            told = f"warmup={self.warmup:g}"  # a share of the run
        warmup = round(self.warmup * steps)
        return {told: learning_rate_schedule(self.schedule, steps, warmup_steps=warmup)}

    def idle(self) -> dict[str, str]:
        found = {}
        if self.head != "skew-symmetric":
            found["planes"] = f"with head={self.head}; it is read with head=skew-symmetric"
        if self.tune == "frozen":
            found["encoder_rate"] = "with tune=frozen; it is read with tune=lora or full"
        if self.model == "hashed":
            found["max_length"] = "with model=hashed, which reads all words"
        if self.holdout == 0 and self.check == 0:
            found["holdout_by"] = "with holdout=0 and check=0, which hold nothing out"
        return found


def make_fit(config: PreferenceConfig, device: torch.device | str = "cpu") -> Fit:
    """A training at its beginning.

    Raises:
        InputError: comparisons or encoder cannot be read, or none can be held out.
    """
    read = read_comparisons(config.pairs, config.on_bad_lines)
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

    def reads(c: Comparison) -> tuple[Hashable, Hashable]:
        first, second = model.rows(c.prompt, c.a, c.b)
        return encoder.reads(first), encoder.reads(second)

    kept, facts = sift(read.kept, reads, config.pairs)
    split_by = generator(config.seed, "held out")
    learn, held = split(kept, config.holdout, config.holdout_by, split_by)
    learn, check = split(learn, config.check, config.holdout_by, split_by)
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

    facts = facts.read_as(read.account)
    return Fit(model, learn, check, held, optimizer, order, config.epochs, config.batch_size, facts)
