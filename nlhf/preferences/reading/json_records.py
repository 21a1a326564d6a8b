"""JSON: an array of objects, an object a line, or columns as pandas writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nlhf.errors import InputError
from nlhf.preferences.reading.sheet import Sheet, cell, make_sheet


def read_json(text: str, source: str) -> Sheet:
    """Read records; values that are lists or objects themselves are left out.

    Raises:
        InputError: no JSON, or records that are no objects.
    """
    if not text.strip():
        raise InputError(f"{source}: empty; give battles, tallies of wins, or a square table")
    try:
        value = json.loads(text)
    except ValueError as error:
        lines = _of_lines(text)
        if lines is None:
            raise InputError(f"{source}: neither JSON nor JSON lines: {error}") from None
        return _of_records(lines[0], source, "JSON lines", lines[1])
    except RecursionError:
        raise InputError(f"{source}: JSON that is nested too deeply") from None
    if isinstance(value, list):
        return _of_records(value, source, "a JSON array", None)
    if (
        isinstance(value, dict)
        and value
        and all(isinstance(v, list | dict) for v in value.values())
    ):
        return _of_columns(value, source)
    if isinstance(value, dict) and value:
        return _of_records([value], source, "JSON lines", [1])
    raise InputError(f"{source}: JSON, but no list of battles; give an array of objects")


def _of_lines(text: str) -> tuple[list[Any], list[int]] | None:
    """The values of JSON lines and their lines' numbers, or None where a line is no JSON."""
    values, numbers = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except ValueError:
                if values and number > 1 and isinstance(values[0], dict):
                    values.append(line)
                    numbers.append(number)
                    continue
                return None
            numbers.append(number)
    return values, numbers


def _of_records(
    values: Sequence[Any], source: str, form: str, lines: Sequence[int] | None
) -> Sheet:
    def where(row: int) -> str:
        return f"{source}:{lines[row]}" if lines else f"{source}: record {row + 1}"

    header: dict[str, None] = {}
    for row, record in enumerate(values):
        if not isinstance(record, Mapping):
            shown = json.dumps(record)[:40]
            raise InputError(f"{where(row)}: {shown} is no JSON object; it was taken for {form}")
        header.update(dict.fromkeys(record))
    if not header:
        raise InputError(f"{source}: {form} without a record")
    nested = {name for name in header for r in values if isinstance(r.get(name), list | dict)}
    names = [name for name in header if name not in nested]
    columns = [[cell(record.get(name)) for record in values] for name in names]
    return make_sheet(source, form, [str(n) for n in names], columns, lines)


def _of_columns(value: Mapping[str, Any], source: str) -> Sheet:
    """A data frame written by columns: {column: {row: value}} or {column: [values]}."""
    form = "JSON columns"
    columns = list(value.values())
    if all(isinstance(column, dict) for column in columns):
        rows = list(dict.fromkeys(row for column in columns for row in column))
        if any(set(column) != set(rows) for column in columns):
            raise InputError(f"{source}: {form} that do not all have the same rows")
        texts = [[cell(column[row]) for row in rows] for column in columns]
        if set(rows) & set(value):  # rows have names, not numbers
            return make_sheet(source, form, ["", *value], [rows, *texts])
        return make_sheet(source, form, list(value), texts)
    lengths = {len(column) for column in columns}
    if len(lengths) != 1 or not all(isinstance(column, list) for column in columns):
        raise InputError(f"{source}: {form} of different lengths")
    return make_sheet(source, form, list(value), [[cell(v) for v in c] for c in columns])
