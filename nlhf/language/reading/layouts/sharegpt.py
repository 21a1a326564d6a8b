"""ShareGPT conversations, with the answer that was chosen and the one that was rejected."""

from __future__ import annotations

from nlhf.language.reading.layout import CHOSEN, REJECTED, Layout, Told, chosen, compared, two
from nlhf.language.reading.rows import Row

TALK = ("conversations", "conversation")


def _read(row: Row) -> Told:
    turns = two(row, CHOSEN, REJECTED, TALK)
    return compared(turns, lambda: chosen(row, turns))


LAYOUT = Layout(
    name="ShareGPT",
    needs=(TALK, CHOSEN, REJECTED),
    read=_read,
    pairs=True,
    shown="conversations, chosen, rejected ({from, value})",
)
