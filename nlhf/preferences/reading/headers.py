"""Infer the meaning of a sheet's columns from their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

SIDES = (
    ("a", "b"),
    ("1", "2"),
    ("left", "right"),
    ("home", "away"),
    ("home", "visitor"),
    ("first", "second"),
    ("x", "y"),
    ("i", "j"),
)
ITEMS = (
    "item", "model", "player", "team", "system", "method", "option", "candidate", "competitor",
    "contestant", "alternative", "object", "name", "policy", "agent", "bot", "assistant",
    "response", "answer", "output", "stimulus", "product", "brand", "",
)  # fmt: skip
"""Words for compared items; the first present counts, the others are text columns."""
TEXTS = ("response", "answer", "output")
"""Items that are answers and belong to a prompt."""
WINS = ("wins", "win", "won", "votes", "vote", "victories", "count", "counts", "n wins", "num wins")
TIES = ("ties", "tie", "draws", "draw", "tied", "drawn", "n ties", "num ties")
WINNERS = (
    "winner", "winning model", "winner model", "result", "outcome", "preference", "preferred",
    "choice", "verdict", "winner name",
)  # fmt: skip
LOSERS = ("loser", "losing model", "loser model", "loser name")
SCORES = ("score", "scores", "goals", "points", "rating", "elo", "goal")
CONTEXTS = ("context",)
TIMES = ("battles", "times", "n battles", "num battles")


@dataclass(frozen=True)
class Roles:
    """The columns by meaning; None where there is none.

    Attributes:
        items: columns of the first and second item.
        side: the rest of their names besides the word, e.g. ("a", "b").
        wins: columns with the wins of the first and second item.
        ties, winner, loser, context: one column each.
        scores: columns of points that are not numbers of battles.
        times: column with the multiplicity of a row.
    """

    items: tuple[str, str] | None = None
    side: tuple[str, str] = ("a", "b")
    wins: tuple[str, str] | None = None
    ties: str | None = None
    winner: str | None = None
    loser: str | None = None
    context: str | None = None
    scores: tuple[str, str] | None = None
    times: str | None = None


def plain(name: str) -> str:
    """A name in lower case, with single spaces instead of dots, dashes and underscores."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", name.strip())
    return " ".join(re.split(r"[\s._\-]+", split.lower())).strip()


def roles(header: Sequence[str]) -> Roles:
    """Assign meanings to columns such as `model_a`, `home.team`, `player1` and `Wins A`."""
    by_name: dict[str, str] = {}
    for name in header:
        by_name.setdefault(plain(name), name)

    def one(words: Sequence[str]) -> str | None:
        return next((by_name[word] for word in words if word in by_name), None)

    items, side = _pair(by_name, ITEMS, None)
    wins, _ = _pair(by_name, WINS, side if items else None)
    if items and wins is None and "wins" in by_name and "losses" in by_name:
        wins = by_name["wins"], by_name["losses"]
    scores, _ = _pair(by_name, SCORES, side if items else None)
    context = one(CONTEXTS)
    if context is None and items and any(plain(items[0]).startswith(t) for t in TEXTS):
        context = by_name.get("prompt") or by_name.get("instruction")
    return Roles(
        items, side, wins, one(TIES), one(WINNERS), one(LOSERS), context, scores, one(TIMES)
    )


def candidates(header: Sequence[str]) -> list[Roles]:
    """Assign meanings for each possible pair of item columns, the most likely first.

    An export may name items twice: `model_x,model_y` by number and `left,right` by name.
    """
    found = roles(header)
    pairs = []
    by_name = {plain(name): name for name in reversed(header)}
    for word in ITEMS:
        for side in SIDES:
            for a, b in ((f"{word} {side[0]}", f"{word} {side[1]}"), (side[0], side[1])):
                if a.strip() in by_name and b.strip() in by_name:
                    pairs.append(((by_name[a.strip()], by_name[b.strip()]), side))
    return [found, *(replace(found, items=pair, side=side) for pair, side in pairs)]


def _pair(
    by_name: Mapping[str, str], words: Sequence[str], side: tuple[str, str] | None
) -> tuple[tuple[str, str] | None, tuple[str, str]]:
    """The two columns of one word, with word and side in either order."""
    sides = [side, *(s for s in SIDES if s != side)] if side else list(SIDES)
    for word in words:
        for a, b in sides:
            if not word and (a, b) not in (("a", "b"), ("left", "right"), ("home", "away")):
                continue
            for first, second in ((f"{word} {a}", f"{word} {b}"), (f"{a} {word}", f"{b} {word}")):
                if first.strip() in by_name and second.strip() in by_name:
                    found = by_name[first.strip()], by_name[second.strip()]
                    return found, (a, b)
    return None, ("a", "b")
