"""Anthropic's HH-RLHF: two transcripts, "Human: ... Assistant: ...", with different ends."""

from __future__ import annotations

from nlhf.language.reading.layout import CHOSEN, REJECTED, Layout, ParsedRow, chosen_over_rejected
from nlhf.language.reading.messages import transcript
from nlhf.language.reading.rows import Row


def _fits(row: Row) -> bool:
    values = [row.value(*names) for names in (CHOSEN, REJECTED)]
    return all(isinstance(value, str) and len(transcript(value) or ()) > 1 for value in values)


def _read(row: Row) -> ParsedRow:
    return chosen_over_rejected(row, ())


LAYOUT = Layout(
    name="HH-RLHF transcripts",
    needs=(CHOSEN, REJECTED),
    read=_read,
    pairs=True,
    shown='chosen, rejected: "Human: ... Assistant: ..."',
    fits=_fits,
)
