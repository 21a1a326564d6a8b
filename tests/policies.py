"""Small language models for the tests, as policies that differ from their references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nlhf.language.adapters import Lora
from nlhf.language.judging import AbstractJudge
from nlhf.language.loading import load_policy
from nlhf.language.policy import Policy
from nlhf.language.prompts import Prompt

WORDS = ("a", "b", "c", "d", "e", "<end>")
PROMPTS = ["a b c d e a b", "c", "d a d", "e e e e e"]


def make_policy(
    kind: str = "full",
    words: Sequence[str] = WORDS,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    moved: float = 0.3,
) -> Policy:
    """A tiny policy, full or LoRA, whose trainable weights were moved away from the reference."""
    lora = Lora(rank=3) if kind == "lora" else None
    policy = load_policy("tiny:" + ",".join(words), lora=lora, dtype=dtype, seed=seed)
    if kind == "lora":
        policy.model.to(dtype)
    move(policy, moved, seed)
    return policy


@torch.no_grad()
def move(policy: Policy, by: float, seed: int = 0) -> None:
    """Add Gaussian noise to the trainable weights."""
    g = torch.Generator().manual_seed(seed)
    for parameter in policy.trainable().values():
        noise = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
        parameter += by * noise.to(parameter.dtype)


class PromptTables(AbstractJudge):
    """A judge with one table of preferences between answers for each prompt."""

    def __init__(self, answers: Sequence[str], tables: dict[str, Tensor]) -> None:
        self.rows = {answer: i for i, answer in enumerate(answers)}
        self.tables = tables

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P from each prompt's own table."""
        found: list[Any] = [
            self.tables[str(x)][self.rows[i], self.rows[j]]
            for x, i, j in zip(prompts, a, b, strict=True)
        ]
        return torch.stack(found)

    def reward(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
        """The mean of an answer's row: a scalar that depends on prompt and answer."""
        return torch.stack(
            [
                self.tables[str(x)][self.rows[y]].mean()
                for x, y in zip(prompts, answers, strict=True)
            ]
        )


def random_tables(prompts: Sequence[str], k: int, seed: int = 0) -> dict[str, Tensor]:
    """Random antisymmetric preferences, including cycles."""
    g = torch.Generator().manual_seed(seed)
    tables = {}
    for prompt in prompts:
        x = 2 * torch.randn(k, k, generator=g, dtype=torch.float64)
        tables[prompt] = torch.sigmoid(x - x.T)
    return tables
