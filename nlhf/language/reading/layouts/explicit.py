"""TRL's preference format with an explicit prompt, as texts or as messages."""

from __future__ import annotations

from nlhf.language.reading.layout import CHOSEN, REJECTED, Layout, ParsedRow, chosen_over_rejected
from nlhf.language.reading.rows import Row
from nlhf.language.reading.turns import PROMPTS


def _read(row: Row) -> ParsedRow:
    return chosen_over_rejected(row)


LAYOUT = Layout(
    name="TRL explicit prompt",
    needs=(PROMPTS, CHOSEN, REJECTED),
    read=_read,
    pairs=True,
    shown="prompt, chosen, rejected",
)
