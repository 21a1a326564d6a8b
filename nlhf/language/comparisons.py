"""Comparisons of two answers: the training data of a preference model."""

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
    """Votes on answer a against answer b; a tie counts as half a vote for each."""

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
    """Split off held-out comparisons or examples; both parts are non-empty unless `holdout` is 0.

    Args:
        comparisons: all comparisons or examples.
        holdout: the held-out share, in [0, 1).
        by: "prompt" keeps all items of a prompt in one part; "pair" splits items independently.
        generator: draws the split.

    Returns:
        The training part and the held-out part, in their original order.

    Raises:
        InputError: too few prompts or pairs to hold any out.
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
    """The share of votes for a, [N], float64."""
    return torch.tensor([c.share for c in comparisons], dtype=torch.float64)


def weights(comparisons: Sequence[Comparison]) -> Tensor:
    """The number of votes, [N], float64."""
    return torch.tensor([c.votes for c in comparisons], dtype=torch.float64)
