"""A square table of counts, rates or percent, with one item per row and per column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nlhf.errors import InputError
from nlhf.preferences.battles import Battles, Numbers
from nlhf.preferences.reading.headers import roles
from nlhf.preferences.reading.rows import look_alikes
from nlhf.preferences.reading.sheet import Sheet

MISSING = ("", "nan", "na", "n/a", "-", "\u2013", "none", "null")
ROUNDING = 1e-9
"""Tolerance on P + P^T = 1; with three or more decimals, one unit of the last."""
_WHOLE = {"rates": 1.0, "percent": 100.0}


def square_names(sheet: Sheet) -> tuple[str, ...] | None:
    """Names of the items if a sheet is, or is meant to be, a square table; otherwise None."""
    found = roles(sheet.header)
    if found.wins or (found.items and found.winner) or (found.winner and found.loser):
        return None
    header, body = sheet.header, sheet.columns
    named = _has_row_names(sheet)
    if named:
        header, body = header[1:], body[1:]
    if not header:
        return None
    if named and set(header) == set(sheet.columns[0]):
        return header
    cells = [text for column in body for text in column]
    numbers = sum(sheet.number(_bare(t)) is not None and not _is_missing(t) for t in cells)
    if (
        2 * numbers < len(cells) - len(header)
        or not numbers
        or (found.items and found.items[0] not in ("a", "left", "home"))
    ):
        return None
    return header


def of_square(
    sheet: Sheet, names: tuple[str, ...], values: str | None, even: bool = False
) -> Battles:
    """Read a table; its numbers determine whether it holds counts, rates or percent.

    Args:
        sheet: the table, with or without row names.
        names: names of its columns.
        values: what it holds, if known.
        even: read an ambiguous table as rates instead of counts.

    Raises:
        InputError: not square, names differ, or the entries fit none or several of these.
    """
    if len(names) < 2:
        raise InputError(
            f"{sheet.source}: {len(names)} action in the header; a game needs two or more; it was "
            "taken for a square table"
        )
    if len(set(names)) < len(names):
        raise InputError(f"{sheet.source}: every action in the header needs a name of its own")
    if all(sheet.number(name) is not None and "." in name for name in names):
        raise InputError(
            f"{sheet.source}: a square table whose first line holds numbers; give a header of names"
        )
    table, marked, places = _numbers(sheet, names)
    what = values or _kind(sheet, names, table, marked, even)
    if what == "counts":
        return _of_counts(sheet, names, table)
    return _of_shares(sheet, names, table, places, what)


def _bare(text: str) -> str:
    return text.removesuffix("%").strip()


def _is_missing(text: str) -> bool:
    return text.lower() in MISSING


def _has_row_names(sheet: Sheet) -> bool:
    first = sheet.columns[0]
    if sheet.header[0] in ("", "Unnamed: 0") or set(first) == set(sheet.header[1:]):
        return True
    return all(sheet.number(_bare(t)) is None and not _is_missing(t) for t in first)


def _numbers(sheet: Sheet, names: tuple[str, ...]) -> tuple[Numbers, bool, NDArray[np.int64]]:
    """The entries [K, K], NaN where empty; whether they have %; their numbers of decimals."""
    k, taken = len(names), "it was taken for a square table"
    if sheet.rows != k:
        raise InputError(
            f"{sheet.source}: {sheet.rows} rows for {k} actions; the table must be square; {taken}"
        )
    named = _has_row_names(sheet)
    body = sheet.columns[1:] if named else sheet.columns
    order = _row_order(sheet, names, sheet.columns[0], taken) if named else range(k)
    table = np.full((k, k), np.nan)
    places = np.zeros((k, k), dtype=np.int64)
    percent = 0
    for i, row in enumerate(order):
        for j, column in enumerate(body):
            text = column[row]
            if _is_missing(text):
                continue
            bare = _bare(text)
            percent += bare != text
            number = sheet.number(bare)
            if number is None or not np.isfinite(number) or number < 0:
                raise InputError(
                    f"{sheet.where(row)}: {text!r} is no number >= 0 of {names[i]} against "
                    f"{names[j]}; {taken}"
                    if number is not None
                    else f"{sheet.where(row)}: {text!r} is no number; {taken}"
                )
            table[i, j] = number
            mark = "," if sheet.decimal_comma and "." not in bare else "."
            places[i, j] = len(bare.partition(mark)[2])
    filled = int((~np.isnan(table)).sum())
    if percent and percent < filled:
        raise InputError(f"{sheet.source}: some entries have % and some have not; {taken}")
    return table, bool(percent), places


def _row_order(
    sheet: Sheet, names: tuple[str, ...], rows: Sequence[str], taken: str
) -> Sequence[int]:
    """The row of each name."""
    k = len(names)
    if set(rows) == set(names):
        if len(set(rows)) < k:
            raise InputError(f"{sheet.source}: two rows of one name; {taken}")
        return [list(rows).index(name) for name in names]
    if list(rows) in ([str(n) for n in range(k)], [str(n + 1) for n in range(k)]):
        return range(k)
    alien = next((row for row in rows if row not in names), None)
    if alien is not None:
        raise InputError(f"{sheet.source}: row {alien!r} has no column of that name; {taken}")
    raise InputError(f"{sheet.source}: two rows of one name; {taken}")


def _kind(sheet: Sheet, names: tuple[str, ...], table: Numbers, marked: bool, even: bool) -> str:
    """Decide between counts, rates and percent by the sums of opposite entries."""
    if marked:
        return "percent"
    k = len(table)
    off = table[~np.eye(k, dtype=bool)]
    off = off[~np.isnan(off)]
    if not len(off):
        raise InputError(f"{sheet.source}: a square table without a number off its diagonal")
    sums = (table + table.T)[np.triu_indices(k, 1)]
    sums = sums[~np.isnan(sums)]
    whole = bool((off == np.round(off)).all())
    halves = bool((2 * off == np.round(2 * off)).all())
    diagonal = np.diag(table)
    zero = bool((diagonal == 0).any())
    if off.max() <= 1 and not (whole and len(sums) and sums.max() > 1):
        if whole and not (diagonal == 0.5).any() and not even and (sums == 1).all():
            raise InputError(
                f"{sheet.source}: a square table of 0 and 1: counts of one battle a pair, or rates "
                "of 0 and 1? say --values counts or --values rates"
            )
        return "rates" if not whole or (sums == 1).all() else "counts"
    near = np.abs(sums - 100) <= 1
    if len(sums) and (near.all() or (not halves and off.max() <= 100)):
        if whole and zero and not even:
            raise InputError(
                f"{sheet.source}: a square table whose pairs all sum to 100: counts of 100 battles "
                "a pair, or percent? say --values counts or --values percent"
            )
        if whole or off.max() <= 100:
            return "percent"
    if whole and len(sums) > 2 and 2 * near.sum() > len(sums):
        i, j = _first_pair(np.abs(table + table.T - 100) > 1)
        raise InputError(
            f"{sheet.source}: a square table that looks like percent, but {names[i]} and "
            f"{names[j]} sum to {table[i, j] + table[j, i]:g}; mend it, or say --values counts"
        )
    return "counts"


def _first_pair(wrong: NDArray[np.bool_]) -> tuple[int, int]:
    i, j = np.nonzero(np.triu(wrong, 1))
    return int(i[0]), int(j[0])


def _of_counts(sheet: Sheet, names: tuple[str, ...], table: Numbers) -> Battles:
    k, taken = len(names), "it was taken for a square table of counts"
    halves = table[~np.isnan(table)] * 2
    if not (halves == np.round(halves)).all():
        i, j = np.argwhere(~np.isnan(table) & (table * 2 != np.round(table * 2)))[0]
        raise InputError(
            f"{sheet.source}: {table[i, j]:g} wins of {names[i]} against {names[j]}: a number of "
            f"wins is whole, or a half for ties; {taken}"
        )
    diagonal = np.nan_to_num(np.diag(table))
    if diagonal.any():
        i = int(np.flatnonzero(diagonal)[0])
        raise InputError(
            f"{sheet.source}: {names[i]} against itself has {diagonal[i]:g} wins; write 0 or "
            f"nothing there; {taken}"
        )
    missing = np.isnan(table)
    np.fill_diagonal(missing, False)
    if (missing != missing.T).any():
        i, j = _first_pair(missing != missing.T)
        raise InputError(
            f"{sheet.source}: {names[i]} against {names[j]} has wins on one side and nothing on "
            f"the other; write 0 if there were none; {taken}"
        )
    i, j = np.triu_indices(k, 1)
    keep = ~missing[i, j]
    i, j = i[keep].astype(np.int64), j[keep].astype(np.int64)
    return Battles(
        name=sheet.source,
        layout=f"{sheet.form}, square table of counts (wins of row against column)",
        items=names,
        first=i,
        second=j,
        won=table[i, j],
        lost=table[j, i],
        tied=np.zeros(len(i)),
        notes=look_alikes(names),
    )


def _of_shares(
    sheet: Sheet, names: tuple[str, ...], table: Numbers, places: NDArray[np.int64], what: str
) -> Battles:
    one = _WHOLE[what]
    taken = f"it was taken for a square table of {'percent' if one > 1 else 'win rates'}"
    high = np.nan_to_num(table) > one
    if high.any():
        i, j = np.argwhere(high)[0]
        raise InputError(
            f"{sheet.source}: {table[i, j]:g} of {names[i]} against {names[j]} is no probability; "
            f"it must lie between 0 and {one:g}; {taken}"
        )
    diagonal = np.diag(table)
    wrong = ~(np.isnan(diagonal) | (diagonal == one / 2) | (diagonal == 0))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{sheet.source}: P({names[i]} > {names[i]}) = {diagonal[i]:g}; an item against itself "
            f"is {one / 2:g}, 0 or nothing; {taken}"
        )
    table = table / one
    np.fill_diagonal(table, 0.5)
    # one side of a pair determines the other
    table = np.where(np.isnan(table), 1 - table.T, table)
    off = np.abs(table + table.T - 1)
    allowed = _allowed(places, one)
    if (np.nan_to_num(off) > allowed).any():
        i, j = np.unravel_index(int(np.nanargmax(off - allowed)), off.shape)
        raise InputError(
            f"{sheet.source}: P({names[i]} > {names[j]}) = {table[i, j] * one:g} and the reverse "
            f"{table[j, i] * one:g} do not sum to {one:g}; {taken}"
        )
    none = np.zeros(0, dtype=np.int64)
    return Battles(
        name=sheet.source,
        layout=f"{sheet.form}, square table of {'percent' if one > 1 else 'win rates'} "
        "(row against column)",
        items=names,
        first=none,
        second=none,
        won=np.zeros(0),
        lost=np.zeros(0),
        tied=np.zeros(0),
        shares=0.5 * (table + 1 - table.T),
        notes=look_alikes(names),
    )


def _allowed(places: NDArray[np.int64], one: float) -> Numbers:
    """Tolerance on P + P^T = 1 for the decimals given; whole percents may be off by one."""
    fewest = np.minimum(places, places.T) + (2 if one > 1 else 0)
    fewest = np.where((places == 0) & (one > 1), 2, fewest)
    # even sixteen digits do not sum to exactly one
    unit = np.maximum(1.001 * 10.0 ** -fewest.astype(float), 1e-12)
    return np.where(fewest >= (2 if one > 1 else 3), unit, ROUNDING)
