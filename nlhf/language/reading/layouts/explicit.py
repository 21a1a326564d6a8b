"""TRL's preference format with an explicit prompt, of texts or of messages."""

from __future__ import annotations

from nlhf.language.reading.layout import CHOSEN, REJECTED, Layout, Told, chosen, compared, two
from nlhf.language.reading.rows import Row
from nlhf.language.reading.turns import PROMPTS


def _read(row: Row) -> Told:
    turns = two(row, CHOSEN, REJECTED)
    return compared(turns, lambda: chosen(row, turns))


LAYOUT = Layout(
    name="TRL explicit prompt",
    needs=(PROMPTS, CHOSEN, REJECTED),
    read=_read,
    pairs=True,
    shown="prompt, chosen, rejected",
)
