"""Convert the rows of a report to a data frame or a text table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from bioplaus.errors import InputError


def frame(rows: Iterable[Any]) -> Any:
    """Convert records to a pandas data frame, one row per record.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError('to_dataframe() needs pandas: pip install "bioplaus[report]"') from None
    return pandas.DataFrame([vars(row) for row in rows])


def text_table(names: Sequence[str], rows: Iterable[Any]) -> str:
    """Format attributes of records in columns, with "-" for missing values."""
    table = [list(names), *([_cell(getattr(row, name)) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in table)
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return "-" if value is None else str(value)
