"""Helpers shared by battles and tallies: item names, numbers, and other columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nlhf.errors import InputError
from nlhf.preferences.battles import Indices, Numbers
from nlhf.preferences.reading.sheet import Sheet


def items_of(
    sheet: Sheet, pair: tuple[str, str], taken: str
) -> tuple[tuple[str, ...], Indices, Indices]:
    """Number the items of both columns, sorted by name.

    Raises:
        InputError: a name is empty, an item is paired with itself, or there are fewer than two.
    """
    first, second = sheet.column(pair[0]), sheet.column(pair[1])
    names: tuple[str, ...] = tuple(sorted({*first, *second}))
    if names and names[0] == "":
        row = next(i for i in range(sheet.rows) if "" in (first[i], second[i]))
        which = pair[0] if first[row] == "" else pair[1]
        raise InputError(f"{sheet.where(row)}: {which} is empty; {taken}")
    if len(names) < 2:
        raise InputError(f"{sheet.where(0)}: {first[0]!r} against itself; {taken}")
    index = {name: i for i, name in enumerate(names)}
    i, j = (
        np.fromiter((index[name] for name in column), np.int64, sheet.rows)
        for column in (first, second)
    )
    same = np.flatnonzero(i == j)
    if len(same):
        row = int(same[0])
        raise InputError(
            f"{sheet.where(row)}: {first[row]!r} against itself; give two different items; {taken}"
        )
    return names, i, j


def counts(sheet: Sheet, name: str, taken: str) -> Numbers:
    """Read numbers of battles: integers, or half-integers where ties were added as halves.

    Raises:
        InputError: a value is empty, not a number, negative, or neither an integer nor a half.
    """
    texts = sheet.column(name)
    out = np.empty(sheet.rows)
    known: dict[str, float] = {}
    for row, text in enumerate(texts):
        if text not in known:
            known[text] = _count(sheet, name, row, text, taken)
        out[row] = known[text]
    return out


def _count(sheet: Sheet, name: str, row: int, text: str, taken: str) -> float:
    if text == "":
        raise InputError(f"{sheet.where(row)}: {name} is empty; {taken}")
    votes = sheet.number(text)
    if votes is None:
        raise InputError(f"{sheet.where(row)}: {name}: {text!r} is no number of votes; {taken}")
    if not (np.isfinite(votes) and votes >= 0):
        raise InputError(
            f"{sheet.where(row)}: {name}: {text} votes; a number of votes is >= 0 and finite; "
            f"{taken}"
        )
    if votes > 2**53 or not float(2 * votes).is_integer():
        raise InputError(
            f"{sheet.where(row)}: {name}: {text} votes; a number of votes is whole, or a half for "
            f"ties; {taken}; shares belong in a square table"
        )
    return votes


def others(sheet: Sheet, used: Sequence[str | None]) -> dict[str, Sequence[str]]:
    """The columns without a meaning here; a context or cluster column may be among them."""
    return {
        name: column
        for name, column in zip(sheet.header, sheet.columns, strict=True)
        if name not in used and name
    }


def look_alikes(items: Sequence[str]) -> tuple[str, ...]:
    """Note names that differ only in case or spaces, which may be one item under two names."""
    seen: dict[str, str] = {}
    notes = []
    for name in items:
        key = " ".join(name.lower().split())
        if key in seen:
            notes.append(f"{seen[key]!r} and {name!r} are taken for two items")
        seen.setdefault(key, name)
    return tuple(notes)
