"""A prompt, regardless of the row's other keys."""

from __future__ import annotations

from nlhf.language.reading.layout import Layout, ParsedRow
from nlhf.language.reading.rows import Row
from nlhf.language.reading.turns import PROMPTS, prompt_of


def _read(row: Row) -> ParsedRow:
    return ParsedRow(prompt_of(row))


LAYOUT = Layout(name="prompt", needs=(PROMPTS,), read=_read, shown="prompt")
