"""Comparisons of two answers: what a preference model learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.prompts import Example, Prompt, key_of

T = TypeVar("T", "Comparison", Example)


@dataclass(frozen=True)
class Comparison:
    """How often answer a was preferred to answer b; a tie is half a vote for each."""

    prompt: Prompt
    a: str
    b: str
    share: float
    votes: float = 1.0


def hold_out(
    comparisons: Sequence[T],
    holdout: float,
    by: str,
    generator: torch.Generator,
) -> tuple[list[T], list[T]]:
    """Hold comparisons or examples out, at least one on either side unless `holdout` is 0.

    Args:
        comparisons: all of them.
        holdout: the share held out, in [0, 1).
        by: "prompt", so that no prompt is on both sides, or "pair".
        generator: says which.

    Returns:
        Those to learn from and those held out, in their order.

    Raises:
        InputError: too few prompts or pairs to hold some out.
    """
    if holdout == 0:
        return list(comparisons), []
    keys = [key_of(c.prompt) if by == "prompt" else str(i) for i, c in enumerate(comparisons)]
    groups = list(dict.fromkeys(keys))
    if len(groups) < 2:
        votes = isinstance(comparisons[0], Comparison)
        fix = "holdout_by=pair or holdout=0" if by == "prompt" and votes else "holdout=0"
        raise InputError(f"{len(groups)} {by} in all; to hold none out use --set {fix}")
    order = torch.randperm(len(groups), generator=generator).tolist()
    number = min(max(round(holdout * len(groups)), 1), len(groups) - 1)
    out = {groups[i] for i in order[:number]}
    learn = [c for c, key in zip(comparisons, keys, strict=True) if key not in out]
    return learn, [c for c, key in zip(comparisons, keys, strict=True) if key in out]


def shares(comparisons: Sequence[Comparison]) -> Tensor:
    """The shares of a, [N], float64."""
    return torch.tensor([c.share for c in comparisons], dtype=torch.float64)


def weights(comparisons: Sequence[Comparison]) -> Tensor:
    """The votes, [N], float64."""
    return torch.tensor([c.votes for c in comparisons], dtype=torch.float64)
