"""The config of a tournament, and how it draws answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from nlhf.config.fields import Count, Seed
from nlhf.config.judges import JudgedConfig
from nlhf.config.language import GenerationConfig, make_sampling
from nlhf.language.decoding import Sampling
from nlhf.language.reading.sifting import OnBadLines


class TournamentConfig(JudgedConfig):
    """Which policies play, on what, before whom.

    Cuts (`generation.top_k`, `generation.top_p`) hold for the answers: no gradient is made of them.

    Attributes:
        policies: two or more: models, folders, or files of answers.
        prompts: a file with the prompts of the tournament.
        limit: number of prompts to use, from the first on; all if not set.
        draws: number of answers per policy and prompt.
        batch_size: number of prompts per pass.
        chat: whether to put prompts into the chat template of the tokenizer, if it has one.
        end_token: the token that ends an answer, if the tokenizer does not define it.
        on_bad_lines: whether a file of prompts with malformed lines is an error, or the lines are
            skipped and counted; files of answers must be valid.
        precision: dtype of the weights.
        seed: seed of the answers.
    """

    policies: tuple[str, ...]
    prompts: str
    limit: Count | None = None
    draws: Count = 1
    batch_size: Count = 8
    generation: GenerationConfig = GenerationConfig()
    precision: Literal["float32", "float64", "bfloat16"] = "float32"
    chat: bool = True
    end_token: str | None = None
    on_bad_lines: OnBadLines = "error"
    seed: Seed = 0

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if not all(Path(name).is_file() for name in self.policies):
            return found
        keys = [f"generation.{name}" for name in GenerationConfig.model_fields]
        keys += ["draws", "batch_size", "precision", "chat", "end_token"]
        return found | dict.fromkeys(
            keys, "where all policies are files of answers; it is read with a model"
        )

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
