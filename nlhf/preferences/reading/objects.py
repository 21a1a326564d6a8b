"""Battles from objects in memory: data frames, arrays, lists of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nlhf.errors import InputError
from nlhf.preferences.reading.sheet import Sheet, cell, make_sheet

NAME = "battles"


def sheet_of(value: Any, names: Sequence[str] | None = None) -> Sheet:
    """Read a pandas (or polars) data frame, a numpy array, a tensor, or a list of records.

    Args:
        value: the object; arrays are square tables of counts, rates or percent.
        names: names of an array's items; "0", "1", ... by default.

    Raises:
        InputError: the object has another type, or an array is not square.
    """
    if hasattr(value, "columns") and hasattr(value, "to_dict"):
        return _of_frame(value)
    if isinstance(value, Mapping):
        columns = [[cell(v) for v in column] for column in value.values()]
        if len({len(column) for column in columns}) != 1:
            raise InputError(f"{NAME}: a dict of columns of different lengths")
        return make_sheet(NAME, "a dict of columns", [str(n) for n in value], columns)
    if isinstance(value, Sequence) and value and all(isinstance(r, Mapping) for r in value):
        header = list(dict.fromkeys(str(name) for record in value for name in record))
        columns = [[cell(record.get(name)) for record in value] for name in header]
        return make_sheet(NAME, "a list of records", header, columns)
    return _of_array(value, names)


def _of_frame(frame: Any) -> Sheet:
    header = [str(name) for name in frame.columns]
    columns = [[cell(v) for v in np.asarray(frame[name]).tolist()] for name in frame.columns]
    index = getattr(frame, "index", None)
    rows = [] if index is None else [str(name) for name in index]
    if set(rows) & set(header):
        header, columns = ["", *header], [rows, *columns]
    return make_sheet(NAME, "a data frame", header, columns)


def _of_array(value: Any, names: Sequence[str] | None) -> Sheet:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        table = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise InputError(
            f"{NAME}: a {kind}; give a path, a data frame, a list of records, or a square array"
        ) from None
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise InputError(f"{NAME}: an array of shape {table.shape}; it must be square, [K, K]")
    header = [str(n) for n in (names if names is not None else range(len(table)))]
    if len(header) != len(table):
        raise InputError(f"{NAME}: {len(header)} names for {len(table)} items")
    columns = [[cell(v) for v in column] for column in table.T.tolist()]
    return make_sheet(NAME, "an array", header, columns)
