"""Tallies: each row says how often two items won against each other."""

from __future__ import annotations

import numpy as np

from nlhf.errors import InputError
from nlhf.preferences.battles import Battles
from nlhf.preferences.reading.headers import Roles
from nlhf.preferences.reading.rows import counts, items_of, look_alikes, others
from nlhf.preferences.reading.sheet import Sheet


def of_tallies(sheet: Sheet, roles: Roles) -> Battles:
    """Read `item_a,item_b,wins_a,wins_b`, with or without ties and context, in any order.

    Rows of the same pair, in either order, are added.

    Raises:
        InputError: see `items_of` and `counts`; an empty context.
    """
    assert roles.items
    assert roles.wins
    used = (*roles.items, *roles.wins, roles.ties)
    taken = f"it was taken for tallies ({', '.join(name for name in used if name)})"
    items, i, j = items_of(sheet, roles.items, taken)
    columns = others(sheet, used)
    if roles.context:
        empty = next((n for n, text in enumerate(columns[roles.context]) if text == ""), None)
        if empty is not None:
            raise InputError(f"{sheet.where(empty)}: {roles.context} is empty; {taken}")
    won, lost = (counts(sheet, name, taken) for name in roles.wins)
    tied = counts(sheet, roles.ties, taken) if roles.ties else np.zeros(sheet.rows)
    place = roles.side in (("home", "away"), ("home", "visitor"))
    what = "home and away tallies" if place else "tallies"
    return Battles(
        name=sheet.source,
        layout=f"{sheet.form}, {what} ({', '.join(name for name in used if name)})",
        items=items,
        first=i,
        second=j,
        won=won,
        lost=lost,
        tied=tied,
        columns=columns,
        context=roles.context,
        ordered=True,
        notes=look_alikes(items),
    )
