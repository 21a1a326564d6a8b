"""JSON records as a sheet of texts."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from nlhf.preferences.reading.records import json_records
from nlhf.preferences.reading.sheet import Sheet, cell, make_sheet


def read_json(text: str, source: str) -> Sheet:
    """Read records; values that are lists or objects are left out.

    Raises:
        InputError: the text is not JSON, or its records are not objects.
    """
    read = json_records(io.StringIO(text), source)
    numbers: list[int] = []
    records: list[Mapping[str, Any]] = []
    for number, record in read.rows:
        numbers.append(number)
        records.append(record)
    header: dict[str, None] = {}
    for record in records:
        header.update(dict.fromkeys(record))
    nested = {name for name in header for r in records if isinstance(r.get(name), list | dict)}
    names = [name for name in header if name not in nested]
    columns: Sequence[Sequence[str]] = [[cell(r.get(name)) for r in records] for name in names]
    return make_sheet(source, read.form, names, columns, numbers if read.unit == "line" else None)
