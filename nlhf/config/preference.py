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
from nlhf.language.comparisons import Comparison, hold_out
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
        model: the encoder of the texts: hashed (words, no download), a folder or a hub name.
        head: how the encoded texts give a preference; see `nlhf.language.preference_models`.
        hidden: number of units of the head's hidden layer.
        planes: number of planes (pairs of coordinates) in which cycles can occur.
        tune: which part of the model learns in addition to the head.
        max_length: largest number of tokens of a row; longer rows are cut.
        epochs: passes over the comparisons.
        batch_size: number of comparisons per step.
        learning_rate: learning rate of the head at the first step.
        encoder_rate: multiplier of the learning rate for the trained weights of the model.
        weight_decay: decoupled weight decay of all trained weights.
        schedule: schedule of the learning rate over the run.
        warmup: fraction of the run over which the rate rises to its full value.
        clip_norm: largest Euclidean norm of all gradients together; no limit if not set.
        holdout: fraction of the comparisons held out for the report.
        check: fraction of the remaining comparisons that decides which epoch is kept.
        holdout_by: whether to hold out whole prompts, or single pairs.
        on_bad_lines: whether a file with malformed lines is an error, or the lines are skipped and
            counted.
        log_every: number of steps between rows of the log.
        seed: seed of new weights, of what is held out, and of the order.
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
        setting = f"schedule={self.schedule}"
        if self.schedule == "constant":
            setting = f"warmup={self.warmup:g}"  # a share of the run
        warmup = round(self.warmup * steps)
        return {setting: learning_rate_schedule(self.schedule, steps, warmup_steps=warmup)}

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
    learn, held = hold_out(kept, config.holdout, config.holdout_by, split_by)
    learn, check = hold_out(learn, config.check, config.holdout_by, split_by)
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
