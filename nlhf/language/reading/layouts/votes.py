"""Two answers and the number of votes for each."""

from __future__ import annotations

from nlhf.language.reading.layout import Layout, Pair, ParsedRow, compared, two
from nlhf.language.reading.rows import Row, malformed
from nlhf.language.reading.turns import PROMPTS

FIRST, SECOND = ("response_a", "answer_a"), ("response_b", "answer_b")


def _pair(row: Row, first: str, second: str) -> Pair:
    counts = []
    for key in ("votes_a", "votes_b", "ties"):
        votes = row.number(key)
        if votes is None and key != "ties":
            raise row.missing(key)
        if votes is not None and votes < 0:
            raise malformed(key, f"{row.values[key]!r} must be a number of votes >= 0")
        counts.append(votes or 0.0)
    total = sum(counts)
    if not 0 < total < float("inf"):
        raise malformed("votes_a", "no votes at all; leave the line out")
    return Pair(first, second, (counts[0] + counts[2] / 2) / total, total)


def _read(row: Row) -> ParsedRow:
    turns = two(row, FIRST, SECOND)
    return compared(turns, lambda: [_pair(row, *turns.answers())])


LAYOUT = Layout(
    name="votes",
    needs=(PROMPTS, FIRST, SECOND, ("votes_a",), ("votes_b",)),
    read=_read,
    pairs=True,
    shown="prompt, response_a, response_b, votes_a, votes_b, ties",
)
