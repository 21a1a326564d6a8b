"""A square table of win probabilities with a header of names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from nlhf.errors import InputError
from nlhf.preferences.base import Preferences

ROUNDING = 1e-9
"""P + P^T may differ from 1 by this, or by a unit of the last of three or more decimals."""


def from_table(
    names: Sequence[str], rows: Sequence[Sequence[str]], path: Path | str
) -> Preferences:
    """Win probabilities P(row > column), made to sum to 1 with their transpose exactly.

    Raises:
        InputError: not square, a name twice, fewer than two actions, an entry that is no number
            in 0..1, a diagonal other than 1/2, or P + P^T other than 1 beyond rounding.
    """
    actions = tuple(name.strip() for name in names)
    k = len(actions)
    if k < 2:
        raise InputError(f"{path}: {k} action in the header; a game needs two or more")
    if len(set(actions)) < k or not all(actions):
        raise InputError(f"{path}: every action in the header needs a name of its own")
    if len(rows) != k:
        raise InputError(f"{path}: {len(rows)} rows for {k} actions; the table must be square")
    table = torch.empty(k, k, dtype=torch.float64)
    for i, row in enumerate(rows):
        if len(row) != k:
            raise InputError(f"{path}:{i + 2}: {len(row)} numbers for {k} actions")
        for j, text in enumerate(row):
            table[i, j] = _probability(text, path, i + 2)
    off = (table + table.T - 1).abs()
    allowed = _allowed(rows)
    if bool((off > allowed).any()):
        i, j = divmod(int((off - allowed).argmax()), k)
        raise InputError(
            f"{path}: P({actions[i]} > {actions[j]}) = {float(table[i, j]):g} and the reverse "
            f"{float(table[j, i]):g} do not sum to 1"
        )
    P = 0.5 * (table + 1 - table.T)
    return Preferences(str(path), (Path(path).stem,), actions, P[None])


def _allowed(rows: Sequence[Sequence[str]]) -> torch.Tensor:
    """How far P + P^T may be from 1, [K, K], by the decimals printed."""
    places = torch.tensor([[len(t.strip().partition(".")[2]) for t in row] for row in rows])
    fewest = torch.minimum(places, places.T)
    unit = 1.001 * 10.0 ** -fewest.double()
    return torch.where(fewest >= 3, unit, ROUNDING)


def _probability(text: str, path: Path | str, number: int) -> float:
    try:
        p = float(text)
    except ValueError:
        raise InputError(f"{path}:{number}: {text.strip()!r} is no number") from None
    if math.isnan(p) or not 0 <= p <= 1:
        raise InputError(f"{path}:{number}: {p} is no probability; it must lie between 0 and 1")
    return p
