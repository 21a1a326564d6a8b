"""The config of a supervised warm start, and the training that it describes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from bridge.config import Config
from bridge.schedules import Schedule, course
from bridge.seeding import generator, seed_for
from nlhf.config.fields import Count, Seed
from nlhf.config.language import (
    LanguageOptimizerConfig,
    LoraConfig,
    idle_precision,
    make_language_optimizer,
)
from nlhf.language.comparisons import hold_out
from nlhf.language.loading import load_policy
from nlhf.language.quantising import Bits
from nlhf.language.reading import read_examples
from nlhf.language.reading.sifting import OnBadLines
from nlhf.language.trainer import Batching
from nlhf.language.warm_start import WarmStart, check_room


class WarmStartConfig(Config):
    """A model and the completions that it learns.

    Attributes:
        model: the model to train: a folder, a hub name, smollm2, or tiny:WORD,WORD,... for a random
            model.
        examples: a file of prompts with the completions to learn.
        held_out: a file of examples that are used only for the report.
        holdout: fraction of the prompts of `examples` to hold out, if there is no such file.
        epochs: passes over the examples.
        batch_size: number of examples per pass.
        accumulation: number of passes per step.
        precision: dtype of the weights.
        quantise: store the weights of the base below an adapter in 4 or 8 bits; needs the extra
            quantised. Not packed if not set.
        mixed_precision: whether to compute in bfloat16.
        chat: whether to put prompts into the chat template of the tokenizer, if it has one.
        end_token: the token that ends an answer, if the tokenizer does not define it.
        on_bad_lines: whether a file with malformed lines is an error, or the lines are skipped and
            counted.
        log_every: number of steps between rows of the log.
        seed: seed of new weights, of what is held out, and of the order.
    """

    length: ClassVar[str] = "epochs"

    model: str
    examples: str
    held_out: str | None = None
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    epochs: Count = 1
    batch_size: Count = 8
    accumulation: Count = 1
    lora: LoraConfig = LoraConfig()
    optimizer: LanguageOptimizerConfig = LanguageOptimizerConfig()
    precision: Literal["float32", "float64", "bfloat16"] = "float32"
    quantise: Bits | None = None
    mixed_precision: bool = False
    chat: bool = True
    end_token: str | None = None
    on_bad_lines: OnBadLines = "error"
    log_every: Count = 1
    seed: Seed = 0

    def courses(self, steps: int) -> Mapping[str, Schedule]:
        return course(self.optimizer.schedule, steps, self.optimizer.warmup_steps)

    def idle(self) -> dict[str, str]:
        found = idle_precision(self.precision)
        if self.held_out is not None:
            found["holdout"] = "with held_out, whose examples are all held out; give one of the two"
        return found


def make_warm_start(config: WarmStartConfig, device: torch.device | str = "cpu") -> WarmStart:
    """A training at its beginning.

    Raises:
        InputError: model or examples cannot be read, do not fit together, or none can be held out.
    """
    files = {"examples": config.examples, "held_out": config.held_out}
    read = {
        name: read_examples(path, config.on_bad_lines)
        for name, path in files.items()
        if path is not None
    }
    policy = load_policy(
        config.model,
        lora=config.lora.made(),
        dtype=getattr(torch, config.precision),
        device=device,
        chat=config.chat,
        end_token=config.end_token,
        seed=seed_for(config.seed, "weights"),
        reference=False,
        quantise=config.quantise,
    )
    if config.lora.dropout:
        policy.drop_inputs(config.lora.dropout, generator(config.seed, "dropout"))
    for name, sifted in read.items():
        check_room(policy, sifted.kept, str(files[name]))
    learned = read["examples"].kept
    if "held_out" in read:
        held = read["held_out"].kept
    else:
        by = generator(config.seed, "held out")
        learned, held = hold_out(learned, config.holdout, "prompt", by)
    accounts = {str(files[name]): sifted.account for name, sifted in read.items()}
    steps = math.ceil(len(learned) / (config.batch_size * config.accumulation))
    optimizer = make_language_optimizer(config.optimizer, policy.trainable(), config.epochs * steps)

    def order(epoch: int) -> Tensor:
        return torch.randperm(len(learned), generator=generator(config.seed, f"epoch {epoch}"))

    autocast = torch.bfloat16 if config.mixed_precision else None
    batching = Batching(config.batch_size, config.accumulation, autocast)
    return WarmStart(policy, learned, held, optimizer, order, config.epochs, batching, accounts)
