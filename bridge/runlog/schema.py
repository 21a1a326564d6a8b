"""The tables of a log: typed columns, made from record dataclasses, with one CRC-32 per row."""

from __future__ import annotations

import dataclasses
import json
import operator
import struct
import types
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1
RESERVED = ("meta", "events", "status", "weights", "journal", "summary")
STATUSES = ("running", "finished", "failed", "stopped")

Kind = Literal["int", "float", "bool", "choice", "bytes"]

_CODES: dict[str, tuple[str, str]] = {
    "int": ("<i8", "q"),
    "float": ("<f8", "d"),
    "bool": ("?", "?"),
    "choice": ("u1", "B"),
}


@dataclass(frozen=True)
class Column:
    """One dataset of a table.

    Args:
        name: its name in the file.
        kind: int (64 bits), float (64 bits), bool, choice (a code for one of `names`), or bytes of
            fixed length.
        names: the meanings of the codes 0, 1, ... of a choice.
        length: bytes of a value; only for kind bytes.
    """

    name: str
    kind: Kind
    names: tuple[str, ...] = ()
    length: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in the file; little-endian on every machine."""
        return np.dtype(f"S{self.length}" if self.kind == "bytes" else _CODES[self.kind][0])

    @property
    def code(self) -> str:
        """The struct code of a value."""
        return f"{self.length}s" if self.kind == "bytes" else _CODES[self.kind][1]


@dataclass(frozen=True)
class TableSchema:
    """The columns of one table, in order, and how its rows are packed and checked.

    A row's CRC-32 is computed from its number (64 bits) and its packed values, so that a correct
    row in the wrong place is detected.
    """

    name: str
    columns: tuple[Column, ...]

    @property
    def commit(self) -> Column:
        """The column that is written last: a row that has it is complete."""
        return next((c for c in self.columns if c.name == "step"), self.columns[0])

    @cached_property
    def packing(self) -> struct.Struct:
        """Row number, then the values in column order, little-endian, without padding."""
        return struct.Struct("<Q" + "".join(column.code for column in self.columns))

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """`packing` as a structured dtype; the row number is called "#"."""
        fields = [(column.name, column.dtype) for column in self.columns]
        return np.dtype([("#", "<u8"), *fields])

    def pack_into(self, buffer: bytearray, row: int, values: Sequence[Any]) -> int:
        """Pack a row and give its CRC.

        Args:
            buffer: receives the packed row, `packing.size` bytes.
            row: number of the row in its table, 0 for the first.
            values: one per column; choices as their names.

        Raises:
            ValueError: a value does not fit its column.
        """
        if self._checked:
            values = list(values)
            for i, column in self._checked:
                values[i] = _stored(column, values[i])
        try:
            self.packing.pack_into(buffer, 0, row, *values)
        except (struct.error, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise ValueError(f"{self.name}: {self._misfit(values)} ({error})") from None
        return zlib.crc32(buffer)

    def good_rows(
        self, columns: Mapping[str, NDArray[Any]], crc: NDArray[Any], first: int = 0
    ) -> int:
        """Count the rows before the first wrong CRC; see `packed`."""
        n = min([len(crc), *(len(columns[column.name]) for column in self.columns)])
        found = self.crcs({c.name: columns[c.name][:n] for c in self.columns}, first)
        wrong = np.flatnonzero(found != crc[:n])
        return int(wrong[0]) if len(wrong) else n

    def packed(self, columns: Mapping[str, NDArray[Any]], first: int = 0) -> bytes:
        """Pack whole columns whose first value belongs to row number `first`."""
        rows = np.empty(len(columns[self.columns[0].name]), self.dtype)
        rows["#"] = np.arange(first, first + len(rows))
        for column in self.columns:
            rows[column.name] = columns[column.name]
        return rows.tobytes()

    def unpacked(self, packed: bytes | bytearray) -> dict[str, NDArray[Any]]:
        """Convert packed rows to columns."""
        rows = np.frombuffer(packed, self.dtype)
        return {column.name: np.ascontiguousarray(rows[column.name]) for column in self.columns}

    def crcs(self, columns: Mapping[str, NDArray[Any]], first: int = 0) -> NDArray[np.uint32]:
        """Compute the CRC of every row of whole columns; see `packed`."""
        packed, size = memoryview(self.packed(columns, first)), self.dtype.itemsize
        n = len(packed) // size
        found = (zlib.crc32(packed[i * size : (i + 1) * size]) for i in range(n))
        return np.fromiter(found, np.uint32, n)

    @cached_property
    def _checked(self) -> list[tuple[int, Column]]:
        """The columns whose values struct does not check strictly enough."""
        return [(i, c) for i, c in enumerate(self.columns) if c.kind in ("choice", "bool")]

    def _misfit(self, values: Sequence[Any]) -> str:
        for column, value in zip(self.columns, values, strict=False):
            try:
                struct.pack("<" + column.code, value)
            except (struct.error, TypeError, ValueError, OverflowError, RuntimeError):
                return f"{column.name}={value!r} is no {column.kind}"
        return "the row does not fit"


def table_schema(name: str, record: type) -> TableSchema:
    """Derive the columns of a table from a record's fields.

    Args:
        name: the table's name in the file, e.g. "metrics".
        record: a dataclass whose fields are int, float, bool or Literal[...] of texts, among them
            `step: int`.

    Raises:
        TypeError: a field has another type, it is no dataclass, or it has no `step: int`.
        ValueError: HDF5 or this log does not allow a name.
    """
    check_name(name)
    if name in RESERVED:
        raise ValueError(f"table {name!r}: the log has a group of that name of its own")
    if not (isinstance(record, type) and dataclasses.is_dataclass(record)):
        raise TypeError(f"table {name!r}: {record!r} is no dataclass")
    hints = get_type_hints(record)
    columns = tuple(_column(f"{name}.{f.name}", f.name, hints[f.name]) for f in _fields(record))
    if Column("step", "int") not in columns:
        raise TypeError(f"table {name!r}: {record.__name__} needs a field step: int")
    return TableSchema(name, columns)


def values_of(record: type) -> Callable[[Any], tuple[Any, ...]]:
    """Make the function that reads the values of a record, in column order."""
    names = [f.name for f in _fields(record)]
    get = operator.attrgetter(*names)
    return get if len(names) > 1 else lambda instance: (get(instance),)


def schemas_to_json(schemas: Sequence[TableSchema]) -> str:
    """Write schemas as JSON."""
    return json.dumps([dataclasses.asdict(schema) for schema in schemas])


def _fields(record: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(record)


def _column(where: str, name: str, hint: Any) -> Column:
    check_name(name)
    for kind, of in (("bool", bool), ("int", int), ("float", float)):
        if hint is of:
            return Column(name, kind)  # type: ignore[arg-type]
    names = get_args(hint) if get_origin(hint) is Literal else ()
    if names and all(isinstance(n, str) for n in names) and len(names) <= 256:
        return Column(name, "choice", names)
    shown = hint if isinstance(hint, types.GenericAlias) else getattr(hint, "__name__", hint)
    raise TypeError(
        f"{where}: {shown} cannot be a column; use int, float, bool or Literal of at most 256 texts"
    )


def check_name(name: Any) -> Any:
    """Check the name of a table or column, and return it.

    Raises:
        ValueError: HDF5 or this log does not allow it.
    """
    legal = isinstance(name, str) and name.isprintable() and set("/#").isdisjoint(name)
    if not legal or name in ("", ".", "..", "crc"):
        raise ValueError(f"{name!r} cannot be a name in the log; leave out / and #, and crc")
    return name


def _stored(column: Column, value: Any) -> Any:
    if column.kind == "bool":
        if isinstance(value, bool | np.bool_):
            return bool(value)
        raise ValueError(f"{column.name}={value!r} is no bool")
    try:
        return column.names.index(value)
    except ValueError:
        legal = ", ".join(column.names)
        raise ValueError(f"{column.name}={value!r} is none of {legal}") from None


EVENTS = TableSchema(
    "events",
    (
        Column("time", "float"),
        Column("event", "int"),
        Column("last", "bool"),
        Column("json", "bytes", length=1000),
    ),
)
STATUS = TableSchema("status", (Column("time", "float"), Column("status", "choice", STATUSES)))


def event_rows(moment: float, number: int, data: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Split an event's JSON into rows of EVENTS.

    Args:
        moment: when it happened, in seconds since 1970.
        number: the number of events before it.
        data: what happened, as JSON values.
    """
    text = json.dumps(data, default=str).encode()
    length = EVENTS.columns[-1].length
    starts = range(0, len(text), length)
    return [
        (moment, number, start + length >= len(text), text[start : start + length])
        for start in starts
    ]
