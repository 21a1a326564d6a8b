"""Read a file's records as they are: one reader for every container and any values."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from nlhf.errors import InputError
from nlhf.preferences.reading.delimited import rows_of
from nlhf.preferences.reading.parquet import parquet_rows

JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
TEXT_ENDINGS = (".csv", ".tsv", ".tab")
MOST_BYTES = 2**30
MOST_DEPTH = 200
LONGEST = 2**26
"""Largest length of a line in characters."""
SPEAKERS = {"role", "from"}
"""Keys of messages, whose values belong to one record."""
_GZIP = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_COLUMNS = "JSON columns"


@dataclass(frozen=True)
class Records:
    """Named values, row by row.

    Attributes:
        source: name of the source, for messages.
        form: the file format, e.g. "JSON lines".
        rows: the number of each row, from 1, and its values; can be iterated only once.
        unit: the word for a row: "line", "record" or "row".
        untyped: whether all values are text, so that an empty one is a missing value.
    """

    source: str
    form: str
    rows: Iterable[tuple[int, Mapping[str, Any]]]
    unit: str = "line"
    untyped: bool = False

    def where(self, number: int) -> str:
        """Describe the position of a row."""
        place = f"{number}" if self.unit == "line" else f" {self.unit} {number}"
        return f"{self.source}:{place}"


@contextmanager
def read_records(path: Path | str) -> Iterator[Records]:
    """Read JSON lines, arrays or columns, delimited text such as CSV, or Parquet; also gzipped.

    The file extension and the first bytes determine the format. The file stays open while the
    context is active.

    Raises:
        InputError: the file cannot be read, is too large or is empty; a malformed row raises when
            it is reached.
    """
    path = Path(path)
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES // 2**20} MiB; give it in parts")
        with ExitStack() as opened:
            raw: BinaryIO = opened.enter_context(path.open("rb"))
            start = raw.peek(4)[:4]
            if start == b"PAR1":
                yield Records(str(path), "Parquet", enumerate(parquet_rows(path), 1), "row")
                return
            form = ""
            if start[:2] == _GZIP:
                unpacked = opened.enter_context(gzip.GzipFile(fileobj=raw))
                raw, form = io.BufferedReader(unpacked), ", gzipped"
                start = raw.peek(4)[:4]
            encoding = "utf-16" if start[:2] in _UTF_16 else "utf-8-sig"
            file = opened.enter_context(io.TextIOWrapper(raw, encoding=encoding))
            endings = {ending.lower() for ending in path.suffixes[-2:]}
            read = _of_table if endings & set(TEXT_ENDINGS) else json_records
            found = read(file, str(path))
            yield replace(found, form=found.form + form)
    except UnicodeDecodeError as error:
        reason = f"no UTF-8 text: {error.reason}; save it as UTF-8"
        raise InputError(f"{path}: {reason}") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read: {reason}") from None


def _of_table(file: TextIO, source: str) -> Records:
    text = _whole(file, source)
    if not text.strip():
        raise InputError(f"{source}: empty; give a header and rows")
    form, header, rows, lines, _ = rows_of(text, source, narrow=True)
    names = [name.strip() for name in header]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{source}: {form} with two columns {twice!r}; give each its own name")
    if not rows:
        raise InputError(f"{source}: {form} with a header ({', '.join(names[:8])}) and no rows")
    # an index written by pandas has no name
    made = ({n: v for n, v in zip(names, row, strict=True) if n} for row in rows)
    return Records(source, form, zip(lines, made, strict=True), untyped=True)


def json_records(file: TextIO, source: str) -> Records:
    """Read JSON: one object per line, an array of objects, or columns as pandas writes them.

    Lines are streamed, so a file may exceed the available memory.

    Raises:
        InputError: it is empty or not JSON, or the first of its lines is not a JSON object.
    """
    lines = _lines(file, source)
    first = next(lines, None)
    if first is None:
        raise InputError(f"{source}: empty; give one JSON object per line")
    number, line = first
    if line.lstrip().startswith("{"):
        try:
            value = _parse(line)
        except (ValueError, RecursionError) as error:
            return _of_whole(line, lines, source, number, error)
        second = next(lines, None)
        spread = _spread(value, source) if second is None and isinstance(value, dict) else None
        if spread is not None:
            return spread
        rest = lines if second is None else _again(second, lines)
        return Records(source, "JSON lines", _of_lines(number, value, rest, source))
    try:
        value = _parse(line)
    except (ValueError, RecursionError) as error:
        return _of_whole(line, lines, source, number, error)
    second = next(lines, None)
    if isinstance(value, list) and second is None:
        return _of_array(value, source)
    _object(value, f"{source}:{number}")
    raise AssertionError("a value that begins without { is no object")


def _of_whole(
    line: str, lines: Iterator[tuple[int, str]], source: str, number: int, error: Exception
) -> Records:
    """A JSON value over several lines; if invalid, report the first line as not an object."""
    if line.lstrip()[0] not in "[{":
        raise _no_json(f"{source}:{number}", error)
    text = line + "".join(each for _, each in lines)
    try:
        value = _parse(text)
    except (ValueError, RecursionError):
        reason = f"{_no_json(f'{source}:{number}', error)}; it is neither JSON nor JSON lines"
        raise InputError(reason) from None
    if isinstance(value, list):
        return _of_array(value, source)
    return _spread(value, source) or Records(source, "a JSON object", [(1, value)], "record")


def _spread(value: Mapping[str, Any], source: str) -> Records | None:
    """Records in an object's columns or in its only list; None if the object is one record."""
    columns = _columns(value)
    if columns is not None:
        return Records(source, _COLUMNS, enumerate(columns, 1), "row")
    only = list(value.values())
    if len(only) != 1 or not isinstance(only[0], list) or not only[0]:
        return None
    messages = any(not isinstance(each, dict) or SPEAKERS & each.keys() for each in only[0])
    return None if messages else _of_array(only[0], source)


def _of_array(values: list[Any], source: str) -> Records:
    if not values:
        raise InputError(f"{source}: a JSON array without a record")
    places = ((n, _object(value, f"{source}: record {n}")) for n, value in enumerate(values, 1))
    return Records(source, "a JSON array", places, "record")


def _of_lines(
    number: int, value: dict[str, Any], lines: Iterator[tuple[int, str]], source: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    yield number, value
    for n, line in lines:
        where = f"{source}:{n}"
        try:
            found = _parse(line)
        except (ValueError, RecursionError) as error:
            raise _no_json(where, error) from None
        yield n, _object(found, where)


def _columns(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Rows from {column: {row: value}} or {column: [values]}; None if it is a single record."""
    columns = list(value.values())
    if len(columns) and all(isinstance(column, dict) for column in columns):
        rows = list(dict.fromkeys(row for column in columns for row in column))
        spoken = {*SPEAKERS, "content"} & set(rows)  # a message, not a column
        if rows and not spoken and all(set(column) == set(rows) for column in columns):
            # rows with the same names as columns form a square table
            named = set(rows) & set(value)
            index = [{"": row} if named else {} for row in rows]
            made = ({n: value[n][row] for n in value} for row in rows)
            return [{**each, **cells} for each, cells in zip(index, made, strict=True)]
        return None
    if not columns or not all(isinstance(column, list) for column in columns):
        return None
    cells = [cell for column in columns for cell in column]
    if len({len(c) for c in columns}) != 1 or not cells or any(isinstance(c, dict) for c in cells):
        return None  # the lists are messages, which belong to one record
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _lines(file: TextIO, source: str) -> Iterator[tuple[int, str]]:
    """The non-blank lines with their numbers."""
    size = number = 0
    while line := file.readline(LONGEST + 1):
        number, size = number + 1, size + len(line)
        if len(line) > LONGEST:
            raise InputError(f"{source}:{number}: longer than {LONGEST // 2**20} MiB")
        if size > MOST_BYTES:
            raise InputError(f"{source}: larger than {MOST_BYTES // 2**20} MiB; give it in parts")
        if line.strip():
            yield number, line


def _again(first: tuple[int, str], rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield first
    yield from rest


def _whole(file: TextIO, source: str) -> str:
    text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise InputError(f"{source}: larger than {MOST_BYTES // 2**20} MiB; give it in parts")
    return text


def _parse(text: str) -> Any:
    """Parse a JSON value; NaN, which Python writes for a missing number, becomes null."""
    check_depth(text)
    return json.loads(text, parse_constant=lambda name: None if name == "NaN" else float(name))


def check_depth(text: str) -> None:
    """Reject nesting that would bring the parser near Python's recursion limit.

    Raises:
        ValueError: the text is nested too deeply.
    """
    if text.count("[") + text.count("{") <= MOST_DEPTH:
        return
    depth = 0
    for sign in re.finditer(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*"?', "", text)):
        depth += 1 if sign.group() in "[{" else -1
        if depth > MOST_DEPTH:
            raise ValueError(f"nested deeper than {MOST_DEPTH}")


def _no_json(where: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:120]
    return InputError(f"{where}: no JSON: {reason}")


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        shown = json.dumps(value)[:40]
        raise InputError(f"{where}: {shown} is no JSON object {{...}} but {kind(value)}")
    return value


def kind(value: object) -> str:
    """The type of a JSON value, in words."""
    if value == []:
        return "an empty list"
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")
