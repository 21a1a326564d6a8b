"""Stanford's SHP: two comments on a post, and which one people preferred."""

from __future__ import annotations

from nlhf.language.reading.layout import Layout, Pair, ParsedRow, by_scores, compared, two
from nlhf.language.reading.rows import Row, malformed

FIRST, SECOND, POST = ("human_ref_a",), ("human_ref_b",), ("history",)


def _share(row: Row) -> float:
    """Label 1 prefers A, 0 prefers B; without a label the higher score does."""
    label = row.number("labels", "label")
    if label is None:
        share = by_scores(row, [("score_a", "score_b")])
        if share is None:
            raise row.missing("labels")
        return share
    if label not in (0, 1):
        raise malformed("labels", f"{label:g} must be 1 (A is preferred) or 0 (B is)")
    return label


def _read(row: Row) -> ParsedRow:
    turns = two(row, FIRST, SECOND, POST)
    return compared(turns, lambda: [Pair(*turns.answers(), share=_share(row))])


LAYOUT = Layout(
    name="SHP",
    needs=(POST, FIRST, SECOND),
    read=_read,
    pairs=True,
    shown="history, human_ref_A, human_ref_B, labels (1: A) or score_A, score_B",
)
