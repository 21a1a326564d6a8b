"""Tallies of human comparisons: context,item_a,item_b,wins_a,wins_b,ties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from nlhf.errors import InputError
from nlhf.preferences.base import Preferences

COLUMNS = ("context", "item_a", "item_b", "wins_a", "wins_b", "ties")


def from_votes(
    rows: Sequence[Sequence[str]], path: Path | str, smoothing: float = 0.0
) -> Preferences:
    """Win probabilities from votes: (wins + ties / 2 + s) / (wins of both + ties + 2 s).

    A pair that was never compared in a context counts as even, P = 1/2, and is reported.

    Args:
        rows: the lines after the header, split; line i of the file is rows[i - 2].
        path: named in messages.
        smoothing: s, pseudo-votes for each side of every compared pair, >= 0; 0 is the raw
            frequency.

    Raises:
        InputError: a malformed line, negative votes, an item against itself, a pair twice, one
            item only, or a negative smoothing.
    """
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise InputError(f"smoothing={smoothing} must be a number of pseudo-votes >= 0")
    tallies: dict[tuple[str, str, str], tuple[float, float]] = {}
    for number, row in enumerate(rows, 2):
        context, a, b, *numbers = _fields(row, path, number)
        if a == b:
            raise InputError(f"{path}:{number}: {a!r} against itself; give two different items")
        wins_a, wins_b, ties = (_count(text, path, number) for text in numbers)
        if (context, a, b) in tallies or (context, b, a) in tallies:
            raise InputError(
                f"{path}:{number}: {a!r} and {b!r} in {context!r} a second time; add the votes up"
            )
        tallies[context, a, b] = (wins_a + ties / 2, wins_b + ties / 2)
    if not tallies:
        raise InputError(f"{path}: no votes below the header; give one line a pair and context")
    contexts = tuple(dict.fromkeys(c for c, _, _ in tallies))
    actions = tuple(sorted({item for _, a, b in tallies for item in (a, b)}))
    index = {name: i for i, name in enumerate(actions)}
    k = len(actions)
    wins = torch.zeros(len(contexts), k, k, dtype=torch.float64)
    for (context, a, b), (won_a, won_b) in tallies.items():
        c, i, j = contexts.index(context), index[a], index[b]
        wins[c, i, j], wins[c, j, i] = won_a, won_b
    counts = wins + wins.mT
    compared = counts > 0
    wins, total = wins + smoothing * compared, counts + 2 * smoothing * compared
    P = torch.where(compared, wins / total.clamp_min(1e-300), 0.5)
    upper = P.triu(1)
    P = upper + (1 - upper.mT).tril(-1) + 0.5 * torch.eye(k, dtype=torch.float64)
    present = compared.any(-1)
    missing = [
        (contexts[c], actions[i], actions[j])
        for c, i, j in (~compared).nonzero().tolist()
        if i < j and present[c, i] and present[c, j]
    ]
    return Preferences(str(path), contexts, actions, P, counts, tuple(missing))


def _fields(row: Sequence[str], path: Path | str, number: int) -> list[str]:
    if len(row) != len(COLUMNS):
        raise InputError(f"{path}:{number}: {len(row)} fields; give {', '.join(COLUMNS)}")
    fields = [text.strip() for text in row]
    for name, text in zip(COLUMNS, fields, strict=True):
        if not text:
            raise InputError(f"{path}:{number}: {name} is empty")
    return fields


def _count(text: str, path: Path | str, number: int) -> float:
    try:
        votes = float(text)
    except ValueError:
        raise InputError(f"{path}:{number}: {text!r} is no number of votes") from None
    if not (math.isfinite(votes) and votes >= 0):
        raise InputError(f"{path}:{number}: {text} votes; a number of votes is >= 0 and finite")
    return votes
