"""Comparisons of two answers: what a preference model learns from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.prompts import (
    Example,
    Prompt,
    Sifted,
    as_answer,
    as_prompt,
    key_of,
    needed,
    read_rows,
    text_of,
)

T = TypeVar("T", "Comparison", Example)
VOTES = ("votes_a", "votes_b", "ties")


@dataclass(frozen=True)
class Comparison:
    """How often answer a was preferred to answer b; a tie is half a vote for each."""

    prompt: Prompt
    a: str
    b: str
    share: float
    votes: float = 1.0


def read_comparisons(path: Path | str) -> Sifted[Comparison]:
    """Read {"prompt", "chosen", "rejected"} or {"prompt", "response_a", "response_b", "votes_a",
    "votes_b", "ties"} ("ties" may be left out), one a line; either kind on any line.

    The answer that won stands first in half of the comparisons only: which side a chosen answer
    is on would otherwise be the whole secret. Lines whose prompt is empty are left out.

    Raises:
        InputError: a malformed line, as FILE:LINE: KEY; no line at all; or all prompts are empty.
    """
    kept: list[Comparison] = []
    empty: list[int] = []
    for number, row in read_rows(path):
        comparison = _comparison(row, f"{path}:{number}", first=number % 2 == 1)
        if text_of(comparison.prompt).strip():
            kept.append(comparison)
        else:
            empty.append(number)
    if not kept:
        raise InputError(
            f"{path}:{empty[0]}: prompt: empty, as in all lines; give what the answers reply to"
        )
    return Sifted(kept, tuple(f"line {number}: prompt" for number in empty))


def _comparison(row: Mapping[str, Any], where: str, *, first: bool) -> Comparison:
    """A row as a comparison, with a chosen answer `first` or second."""
    prompt = as_prompt(row, where)
    if "chosen" not in row and "rejected" not in row:
        return _votes(prompt, row, where)
    chosen, rejected = (as_answer(row, key, where) for key in ("chosen", "rejected"))
    if first:
        return Comparison(prompt, chosen, rejected, 1.0)
    return Comparison(prompt, rejected, chosen, 0.0)


def _votes(prompt: Prompt, row: Mapping[str, Any], where: str) -> Comparison:
    if "response_a" not in row:
        raise InputError(
            f"{where}: chosen: missing; give chosen and rejected, or response_a, response_b, "
            "votes_a, votes_b and ties"
        )
    a, b = (as_answer(row, key, where) for key in ("response_a", "response_b"))
    counts = []
    for key in VOTES:
        votes = row.get(key, 0) if key == "ties" else needed(row, key, where)
        legal = isinstance(votes, int | float) and not isinstance(votes, bool)
        if not (legal and math.isfinite(votes) and votes >= 0):
            raise InputError(f"{where}: {key}: {votes!r} must be a number of votes >= 0")
        counts.append(float(votes))
    total = sum(counts)
    if not 0 < total < math.inf:
        raise InputError(f"{where}: votes_a: no votes at all; leave the line out")
    return Comparison(prompt, a, b, (counts[0] + counts[2] / 2) / total, total)


def split(
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
