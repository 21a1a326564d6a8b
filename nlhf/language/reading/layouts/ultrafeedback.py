"""UltraFeedback-binarized: complete chosen and rejected conversations, with scores."""

from __future__ import annotations

from nlhf.language.reading.layout import (
    CHOSEN,
    REJECTED,
    SCORES,
    Layout,
    ParsedRow,
    chosen,
    compared,
    two,
)
from nlhf.language.reading.rows import Row
from nlhf.language.reading.turns import PROMPTS


def _read(row: Row) -> ParsedRow:
    turns = two(row, CHOSEN, REJECTED)
    return compared(turns, lambda: chosen(row, turns))


LAYOUT = Layout(
    name="UltraFeedback-binarized",
    needs=(PROMPTS, CHOSEN, REJECTED, *(tuple(keys) for keys in zip(*SCORES, strict=True))),
    read=_read,
    pairs=True,
    shown="prompt, chosen, rejected, score_chosen, score_rejected",
)
