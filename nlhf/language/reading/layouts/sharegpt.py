"""ShareGPT conversations, with a chosen and a rejected answer."""

from __future__ import annotations

from nlhf.language.reading.layout import CHOSEN, REJECTED, Layout, ParsedRow, chosen_over_rejected
from nlhf.language.reading.rows import Row

TALK = ("conversations", "conversation")


def _read(row: Row) -> ParsedRow:
    return chosen_over_rejected(row, TALK)


LAYOUT = Layout(
    name="ShareGPT",
    needs=(TALK, CHOSEN, REJECTED),
    read=_read,
    pairs=True,
    shown="conversations, chosen, rejected ({from, value})",
)
