"""TRL's preference format without a prompt, which is the common start of chosen and rejected."""

from __future__ import annotations

from nlhf.language.reading.layout import CHOSEN, REJECTED, Layout, ParsedRow, chosen_over_rejected
from nlhf.language.reading.rows import Refused, Row


def _read(row: Row) -> ParsedRow:
    texts = all(isinstance(row.value(*names), str) for names in (CHOSEN, REJECTED))
    if texts and "prompt" in row.nulls:  # the two answers may still start alike
        raise Refused("prompt", "empty", empty=True) if row.untyped else row.missing("prompt")
    return chosen_over_rejected(row, ())


LAYOUT = Layout(
    name="TRL implicit prompt",
    needs=(CHOSEN, REJECTED),
    read=_read,
    pairs=True,
    shown="chosen, rejected",
)
