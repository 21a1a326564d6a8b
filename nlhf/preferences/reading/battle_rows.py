"""One battle per row: two items and the winner, or the winner and the loser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nlhf.errors import InputError
from nlhf.preferences.battles import Battles
from nlhf.preferences.reading.headers import Roles, plain
from nlhf.preferences.reading.rows import counts, items_of, look_alikes, others
from nlhf.preferences.reading.sheet import Sheet

TIED = (
    "tie", "ties", "tied", "draw", "drawn", "equal", "even", "both", "neither", "same", "half",
    "both bad", "bothbad", "tie (bothbad)", "tie (both bad)", "both good", "bothgood",
    "tie (bothgood)", "tie (both good)", "no preference",
)  # fmt: skip
_FIRST, _SECOND, _TIE = 0, 1, 2


def of_battles(sheet: Sheet, roles: Roles) -> Battles:
    """Read `model_a,model_b,winner`; a winner is a column name, its side, an item, or a tie.

    Raises:
        InputError: see `items_of`; a winner that is neither an item nor a tie, or is ambiguous.
    """
    assert roles.items
    assert roles.winner
    taken = f"it was taken for battles ({', '.join(roles.items)}, {roles.winner})"
    items, i, j = items_of(sheet, roles.items, taken)
    first, second = sheet.column(roles.items[0]), sheet.column(roles.items[1])
    winners = sheet.column(roles.winner)
    sides = _side_words(roles)
    by_word = {text: sides.get(plain(text)) for text in set(winners)}
    by_name = _by_names_only(first, second, winners, by_word)
    outcome = np.empty(sheet.rows, dtype=np.int64)
    for row, (text, a, b) in enumerate(zip(winners, first, second, strict=True)):
        word = by_word[text]
        name = _FIRST if text == a else _SECOND if text == b else None
        if by_name and name is not None:
            word = name
        if name is not None and word is not None and name != word:
            raise InputError(
                f"{sheet.where(row)}: {roles.winner} {text!r} is the name of an item and could "
                f"mean {_meaning(word, roles)} as well; write {roles.items[0]}, {roles.items[1]} "
                f"or tie; {taken}"
            )
        found = word if name is None else name
        if found is None:
            what = f"{text!r} is" if text else "is empty: it is"
            raise InputError(
                f"{sheet.where(row)}: {roles.winner} {what} neither {a!r} nor {b!r} nor "
                f"{roles.items[0]}, {roles.items[1]} or tie; {taken}"
            )
        outcome[row] = found
    times = counts(sheet, roles.times, taken) if roles.times else 1.0
    used = (*roles.items, roles.winner, roles.times)
    return Battles(
        name=sheet.source,
        layout=f"{sheet.form}, one battle a row ({', '.join(roles.items)}, {roles.winner})",
        items=items,
        first=i,
        second=j,
        won=(outcome == _FIRST) * times,
        lost=(outcome == _SECOND) * times,
        tied=(outcome == _TIE) * times,
        columns=others(sheet, used),
        context=roles.context,
        ordered=True,
        sequence=roles.times is None,
        notes=look_alikes(items),
    )


def winners_fit(sheet: Sheet, roles: Roles) -> bool:
    """Whether every winner is a side, an item name, or a tie."""
    assert roles.items
    assert roles.winner
    words = _side_words(roles)
    names = {*sheet.column(roles.items[0]), *sheet.column(roles.items[1])}
    return all(plain(w) in words or w in names for w in set(sheet.column(roles.winner)))


def of_winners(sheet: Sheet, roles: Roles) -> Battles:
    """Read `winner,loser`, and an optional column that marks ties.

    Raises:
        InputError: see `items_of`; a tie marker that is neither yes nor no.
    """
    assert roles.winner
    assert roles.loser
    pair = roles.winner, roles.loser
    taken = f"it was taken for battles ({', '.join(pair)})"
    items, i, j = items_of(sheet, pair, taken)
    tied = np.zeros(sheet.rows)
    if roles.ties:
        yes, no = ("1", "true", "yes", "tie", "draw"), ("", "0", "false", "no")
        for row, text in enumerate(sheet.column(roles.ties)):
            if text.lower() not in (*yes, *no):
                raise InputError(
                    f"{sheet.where(row)}: {roles.ties} {text!r} is neither yes nor no; {taken}"
                )
            tied[row] = text.lower() in yes
    times = counts(sheet, roles.times, taken) if roles.times else 1.0
    return Battles(
        name=sheet.source,
        layout=f"{sheet.form}, one battle a row ({', '.join(pair)})",
        items=items,
        first=i,
        second=j,
        won=(1 - tied) * times,
        lost=np.zeros(sheet.rows),
        tied=tied * times,
        columns=others(sheet, (*pair, roles.ties, roles.times)),
        context=roles.context,
        sequence=roles.times is None,
        notes=look_alikes(items),
    )


def _by_names_only(
    first: Sequence[str],
    second: Sequence[str],
    winners: Sequence[str],
    by_word: Mapping[str, int | None],
) -> bool:
    """Whether all winners are item names, and some have no other meaning."""
    decided = [row for row in zip(first, second, winners, strict=True) if by_word[row[2]] != _TIE]
    if any(text not in (a, b) for a, b, text in decided):
        return False
    return any(by_word[text] is None for _, _, text in decided)


def _side_words(roles: Roles) -> dict[str, int]:
    """The possible meanings of a winner's text, other than item names."""
    assert roles.items
    words = dict.fromkeys((plain(word) for word in TIED), _TIE)
    for number, (column, side) in enumerate(zip(roles.items, roles.side, strict=True)):
        words[plain(column)] = number
        words[side] = number
    if roles.side == ("a", "b"):
        words |= {"left": _FIRST, "right": _SECOND}
    return words


def _meaning(word: int, roles: Roles) -> str:
    assert roles.items
    return "a tie" if word == _TIE else roles.items[word]
