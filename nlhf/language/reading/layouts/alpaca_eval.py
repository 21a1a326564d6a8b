"""AlpacaEval's annotations: two outputs and a preference, as 1 or 2 or a weight in between."""

from __future__ import annotations

from nlhf.language.reading.layout import Layout, Pair, ParsedRow, compared, two
from nlhf.language.reading.rows import Row, malformed
from nlhf.language.reading.turns import PROMPTS

FIRST, SECOND = ("output_1",), ("output_2",)


def _share(row: Row) -> float:
    """1 prefers the first, 2 the second, 1.5 and 0 neither; values in between are weights."""
    preference = row.number("preference")
    if preference == 0:
        return 0.5
    if preference is None or not 1 <= preference <= 2:
        raise malformed("preference", f"{preference} must be 1 to 2, or 0 for a tie")
    return 2 - preference


def _read(row: Row) -> ParsedRow:
    turns = two(row, FIRST, SECOND)
    return compared(turns, lambda: [Pair(*turns.answers(), share=_share(row))])


LAYOUT = Layout(
    name="AlpacaEval",
    needs=(PROMPTS, FIRST, SECOND, ("preference",)),
    read=_read,
    pairs=True,
    shown="instruction, output_1, output_2, preference (1, 2, or between)",
)
