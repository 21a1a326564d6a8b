"""Read a log piece by piece, so that its rows need not fit into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bridge.errors import InputError
from bridge.runlog import facts, guard
from bridge.runlog.digest import has_summary
from bridge.runlog.layout import CRC, stored_dtype
from bridge.runlog.liveness import is_alive
from bridge.runlog.reader import (
    Contents,
    Run,
    check_values,
    decode,
    events_of,
    newest_status,
    read_contents,
    read_head,
    read_table,
)
from bridge.runlog.schema import EVENTS, STATUS, TableSchema

BLOCK = 1 << 16
"""Rows that are in memory at a time."""

Columns = dict[str, NDArray[Any]]


class LogFile:
    """A log that is read piece by piece; made by `open_log`.

    A sealed one stays on the disk. Of one that is not, the rows there were at opening are held in
    memory as their bytes.
    """

    def __init__(self, path: Path, source: tuple[h5py.File, int] | Contents) -> None:
        """Take over what `open_log` has opened."""
        self.path = path
        self._source = source
        if isinstance(source, Contents):
            own = source
        else:
            meta, schemas = read_head(source[0])
            found = {s.name: read_table(*source, s, True) for s in (EVENTS, STATUS)}
            columns = {name: each[0] for name, each in found.items()}
            if not len(columns[STATUS.name][CRC.name]):
                raise guard.Damaged("damaged log: it has no status")
            own = Contents(meta, schemas, columns, {}, True)
        self.meta: Mapping[str, Any] = own.meta
        self.config: Mapping[str, Any] = facts.from_json(own.meta["config"])
        self.schemas = {s.name: s for s in own.schemas if s not in (EVENTS, STATUS)}
        self.sealed = own.sealed
        self.dropped = {name: n for name, n in own.dropped.items() if n}
        self.status, self.heartbeat = newest_status(own)
        facts.check_time(self.heartbeat)
        self.alive = not own.sealed and is_alive(own.meta, self.status, self.heartbeat)
        self.events = events_of(path, own.columns["events"])

    @property
    def state(self) -> str:
        """See `Run.state`."""
        return "died" if self.status == "running" and not self.alive else self.status

    def schema(self, table: str) -> TableSchema:
        """Give a table's schema.

        Raises:
            InputError: there is no such table.
        """
        if table not in self.schemas:
            legal = ", ".join(self.schemas)
            raise InputError(f"{self.path}: no table {table!r}; it has {legal}")
        return self.schemas[table]

    def rows(self, table: str) -> int:
        """Count a table's rows."""
        if isinstance(self._source, Contents):
            return len(self._source.columns[table][CRC.name])
        group = guard.group(self._source[0], table)
        return guard.dataset(group, self.schema(table).commit.name).shape[0]

    def whole(self, table: str) -> Columns:
        """Give all rows of a table at once, each verified; choices as texts.

        Raises:
            InputError: it has more bytes than are read.
            Damaged: a row whose CRC is wrong.
        """
        rows, size = self.rows(table), self.schema(table).dtype.itemsize
        if rows * size > guard.MAX_BYTES:
            raise InputError(f"{self.path}: {table} claims {rows * size} bytes")
        return self.slice(table, 0, rows)

    def run(self, tables: Mapping[str, Columns]) -> Run:
        """Give the run, with these rows of its tables."""
        return Run(
            path=self.path,
            meta=self.meta,
            config=self.config,
            status=self.status,
            alive=self.alive,
            heartbeat=self.heartbeat,
            sealed=self.sealed,
            events=self.events,
            dropped=self.dropped,
            tables={name: tables[name] for name in self.schemas},
        )

    def blocks(self, table: str, size: int = BLOCK) -> Iterator[Columns]:
        """Give a table's columns, so many rows at a time, each row verified; choices as texts.

        Raises:
            Damaged: a row whose CRC is wrong.
        """
        rows = self.rows(table)
        for start in range(0, rows, size):
            yield self.slice(table, start, min(start + size, rows))

    def slice(self, table: str, start: int, end: int) -> Columns:
        """Give some rows of a table, each verified; choices as texts.

        Raises:
            Damaged: a row whose CRC is wrong.
        """
        schema = self.schema(table)
        return decode(schema, self._stored(schema, start, end))

    def windows(self, table: str, size: int = BLOCK) -> Iterator[Columns]:
        """Give blocks that are cut where the step changes, so that a step is whole in one."""
        kept: Columns = {}
        for block in self.blocks(table, size):
            rows = {n: np.concatenate([kept[n], block[n]]) for n in kept} if kept else block
            end = int(np.searchsorted(rows["step"], rows["step"][-1], "left"))
            kept = {name: values[end:] for name, values in rows.items()}
            if end:
                yield {name: values[:end] for name, values in rows.items()}
        if kept:
            yield kept

    def _stored(self, schema: TableSchema, start: int, end: int) -> Columns:
        if isinstance(self._source, Contents):
            columns = self._source.columns[schema.name]
            return {name: values[start:end] for name, values in columns.items()}
        file, fd = self._source
        group = guard.group(file, schema.name)
        columns = (*schema.columns, CRC)
        total = (end - start) * sum(stored_dtype(c).itemsize for c in columns)
        if total > os.fstat(fd).st_size:
            raise guard.Damaged(f"/{schema.name} claims {total} bytes, but the file has fewer")
        found: Columns = {}
        for column in columns:
            dataset = guard.column(group, column.name, stored_dtype(column))
            found[column.name] = dataset[start:end]
        good = schema.good_rows(found, found[CRC.name], start)
        if good < end - start:
            raise guard.Damaged(f"damaged log: /{schema.name}, row {start + good}")
        check_values(schema, found)
        return found


@contextmanager
def open_log(path: Path | str) -> Iterator[LogFile]:
    """Open a log to be read piece by piece.

    Raises:
        InputError: no log, or a damaged one; here or inside the block.
    """
    path = Path(path)
    with ExitStack() as stack:
        log = guard.patiently(path, lambda: _sealed(path, stack))
        yield log or LogFile(path, read_contents(path))


def _sealed(path: Path, stack: ExitStack) -> LogFile | None:
    """Open a sealed log until the stack ends; None if it is none."""
    with ExitStack() as ours:
        file, fd = ours.enter_context(guard.opened(path))
        if "sealed" not in file.attrs:
            return None
        has_summary(file, fd)
        log = LogFile(path, (file, fd))
        stack.push(ours.pop_all())
        return log
