"""The result of a run: its headline metric at the last step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.headline import Columns as Names
from bridge.headline import Headline, first_of
from bridge.runlog.schema import TableSchema
from bridge.runlog.stream import Columns, LogFile

Known = Mapping[str, Sequence[Headline]]
"""Headlines by command, in order of preference, for logs that do not name theirs."""
_FIRST_LOOK = 64
_OF_ROWS = {"mean": np.mean, "smallest": np.fmin.reduce, "largest": np.fmax.reduce}


def declared(meta: Mapping[str, Any]) -> Headline | None:
    """Give the headline in a log's facts, None if they name none."""
    text = meta.get("headline")
    return Headline.model_validate_json(text) if text else None


def numbers_in(schemas: Iterable[TableSchema]) -> Names:
    """Give the names of the numeric columns, by table."""
    kinds = ("int", "float", "bool")
    return {s.name: [c.name for c in s.columns if c.kind in kinds] for s in schemas}


def headline_of(
    meta: Mapping[str, Any], names: Names, known: Sequence[Headline] = ()
) -> Headline | None:
    """Give a log's headline: its own, or else the first known one whose column it has.

    Args:
        meta: its facts.
        names: of its numeric columns, by table.
        known: the headlines of its command.
    """
    own = declared(meta)
    found = first_of([*([own] if own else ()), *known], names)
    if found is None or found.over in names[found.table]:
        return found
    return found.model_copy(update={"over": "step"})


def counted(columns: Mapping[str, NDArray[Any]], headline: Headline) -> NDArray[np.bool_]:
    """Tell which rows of the headline's table count."""
    rows = np.ones(len(columns["step"]), np.bool_)
    for name, value in headline.where.items():
        if name in columns:
            rows &= columns[name].astype(str) == value
    return rows


def last_value(columns: Mapping[str, NDArray[Any]], headline: Headline) -> float | None:
    """Give the value at the last step among the rows that count; None without such a row."""
    rows = counted(columns, headline)
    steps, values = columns["step"][rows], columns[headline.column][rows].astype(np.float64)
    if not len(steps):
        return None
    return float(_OF_ROWS[headline.of_rows](values[steps == steps[-1]]))


def result_of(log: LogFile, headline: Headline | None) -> float | None:
    """Give a log's result; only the last rows of the table are read.

    Raises:
        Damaged: one of these rows cannot be read.
    """
    if headline is None:
        return None
    rows, size = log.rows(headline.table), _FIRST_LOOK
    while True:
        part: Columns = log.slice(headline.table, max(rows - size, 0), rows)
        if size >= rows or part["step"][0] < part["step"][-1]:
            return last_value(part, headline)
        size *= 8
