"""Recognise a sheet's layout: battles, winners and losers, tallies, or a square table."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from nlhf.errors import InputError
from nlhf.preferences.battles import Battles
from nlhf.preferences.reading.battle_rows import of_battles, of_winners, winners_fit
from nlhf.preferences.reading.headers import TEXTS, Roles, candidates, plain, roles
from nlhf.preferences.reading.sheet import Sheet
from nlhf.preferences.reading.square import of_square, square_names
from nlhf.preferences.reading.tally_rows import of_tallies

Values = Literal["counts", "rates", "percent"]
EMPTY = "(empty answer)"
LEGAL = (
    "give battles (model_a,model_b,winner), winner,loser, tallies (item_a,item_b,wins_a,wins_b), "
    "or a square table with a header of names"
)


def recognise(sheet: Sheet, values: Values | None = None, even: bool = False) -> Battles:
    """Recognise the layout by its header, or by the names and numbers of a table, and read it.

    Args:
        sheet: the sheet to read.
        values: content of a square table; inferred from its numbers by default.
        even: whether an ambiguous square table is read as rates instead of counts.

    Raises:
        InputError: no layout or two layouts fit, or the content violates the one that fits.
    """
    names = square_names(sheet)
    if names is not None:
        return of_square(sheet, names, values, even)
    found = roles(sheet.header)
    if values is not None:
        raise InputError(
            f"{sheet.source}: no square table, so that it holds no {values}; leave --values out"
        )
    if found.items:
        return _of_pairs(sheet, found)
    if found.winner and found.loser:
        return of_winners(sheet, found)
    if found.winner or found.loser:
        here, missing = (found.winner or found.loser), "loser" if found.winner else "winner"
        raise InputError(
            f"{sheet.source}: {sheet.form} with a column {here!r}, taken for battles; it needs "
            f"{missing!r} or the two items (model_a, model_b) as well"
        )
    if found.wins:
        raise InputError(
            f"{sheet.source}: {sheet.form} with {', '.join(found.wins)}, taken for tallies; the "
            "columns of the two items (item_a, item_b) are missing"
        )
    if {"chosen", "rejected"} <= set(sheet.header):
        raise InputError(
            f"{sheet.source}: {sheet.form} with 'chosen' and 'rejected', taken for pairs of "
            "answers: preference-train learns from them; a ranking needs who answered "
            "(winner, loser)"
        )
    raise InputError(
        f"{sheet.source}: {sheet.form} with columns {', '.join(sheet.header[:8])}: no layout that "
        f"is known; {LEGAL}"
    )


def _answers(sheet: Sheet, pair: tuple[str, str]) -> tuple[Sheet, tuple[str, ...]]:
    """Name empty answers, and drop answers compared with themselves; note how many."""
    a, b = sheet.column(pair[0]), sheet.column(pair[1])
    keep = [row for row in range(sheet.rows) if a[row] != b[row]]
    empty = sum((a[row] == "") + (b[row] == "") for row in keep)
    notes = []
    if len(keep) < sheet.rows:
        notes.append(f"{sheet.rows - len(keep)} rows of an answer against itself are left out")
    if empty:
        notes.append(f"{empty} answers are empty; each is taken for one item of its context")
    if not keep:
        raise InputError(f"{sheet.source}: every row has the same answer twice; nothing to rank")

    def column(name: str) -> list[str]:
        texts = sheet.column(name)
        if name in pair:
            return [texts[row] or EMPTY for row in keep]
        return [texts[row] for row in keep]

    columns = tuple(column(name) for name in sheet.header)
    lines = None if sheet.lines is None else [sheet.lines[row] for row in keep]
    return replace(sheet, columns=columns, lines=lines), tuple(notes)


def _of_pairs(sheet: Sheet, found: Roles) -> Battles:
    assert found.items
    pair = ", ".join(found.items)
    if found.winner and found.loser:
        raise InputError(
            f"{sheet.source}: {sheet.form} with {pair} and also {found.winner}, {found.loser}: two "
            "layouts at once; leave out one"
        )
    if found.winner and found.wins:
        raise InputError(
            f"{sheet.source}: {sheet.form} with {found.winner!r} and also "
            f"{', '.join(found.wins)}: battles or tallies? leave out one"
        )
    if plain(found.items[0]).startswith(TEXTS) and (found.winner or found.wins):
        sheet, left_out = _answers(sheet, found.items)
        read = of_battles(sheet, found) if found.winner else of_tallies(sheet, found)
        return replace(read, notes=(*left_out, *read.notes))
    if found.winner:
        fitting = (each for each in candidates(sheet.header) if winners_fit(sheet, each))
        return of_battles(sheet, next(fitting, found))
    if found.wins:
        return of_tallies(sheet, found)
    if found.scores:
        raise InputError(
            f"{sheet.source}: {sheet.form} with {pair}, {', '.join(found.scores)}: scores are no "
            "numbers of won battles; give each battle's winner, or rename them wins_a, wins_b if "
            "they are"
        )
    raise InputError(
        f"{sheet.source}: {sheet.form} with {pair}, taken for battles or tallies; it needs "
        "'winner', or 'wins_a' and 'wins_b' as well"
    )
