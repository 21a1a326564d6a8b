"""Read a log piece by piece, for logs whose rows do not fit into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

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
    claimed_rows,
    decode,
    events_of,
    newest_status,
    place_of_journal,
    read_contents,
    read_head,
    unpacked,
)
from bridge.runlog.replay import Replay
from bridge.runlog.schema import EVENTS, STATUS, TableSchema

BLOCK = 1 << 16
"""Number of rows that are in memory at a time."""

Columns = dict[str, NDArray[Any]]


class Source(Protocol):
    """A source of rows."""

    def rows(self, schema: TableSchema) -> int:
        """Count a table's rows."""
        ...

    def read(self, schema: TableSchema, start: int, end: int) -> Columns:
        """Read and verify some rows, as stored, including the column `crc`."""
        ...


class _Held:
    """All rows of a log, in memory."""

    def __init__(self, contents: Contents) -> None:
        self._columns = contents.columns

    def rows(self, schema: TableSchema) -> int:
        return len(self._columns[schema.name][CRC.name])

    def read(self, schema: TableSchema, start: int, end: int) -> Columns:
        return {name: values[start:end] for name, values in self._columns[schema.name].items()}


class _Sealed:
    """The datasets of a sealed log."""

    def __init__(self, file: h5py.File, fd: int) -> None:
        self._file, self._fd = file, fd

    def rows(self, schema: TableSchema) -> int:
        return guard.dataset(guard.group(self._file, schema.name), schema.commit.name).shape[0]

    def read(self, schema: TableSchema, start: int, end: int) -> Columns:
        group = guard.group(self._file, schema.name)
        columns = (*schema.columns, CRC)
        total = (end - start) * sum(stored_dtype(c).itemsize for c in columns)
        if total > os.fstat(self._fd).st_size:
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


class _Growing:
    """The journal of a log that is not sealed, with the rows that it had when it was opened."""

    def __init__(self, replay: Replay, schemas: Sequence[TableSchema]) -> None:
        self.replay = replay
        self._numbers = {schema.name: number for number, schema in enumerate(schemas)}

    def rows(self, schema: TableSchema) -> int:
        return self.replay.rows[self._numbers[schema.name]]

    def read(self, schema: TableSchema, start: int, end: int) -> Columns:
        return unpacked(schema, self.replay.read(self._numbers[schema.name], start, end))


class LogFile:
    """A log that is read piece by piece, sealed or not; created by `open_log`."""

    def __init__(
        self,
        path: Path,
        source: Source,
        meta: Mapping[str, Any],
        schemas: Sequence[TableSchema],
        sealed: bool,
        dropped: Mapping[str, int] | None = None,
    ) -> None:
        """Take over what `open_log` has opened."""
        self.path = path
        self.meta = meta
        self.config: Mapping[str, Any] = facts.from_json(meta["config"])
        self.schemas = {s.name: s for s in schemas if s not in (EVENTS, STATUS)}
        self.sealed = sealed
        self.dropped = {name: n for name, n in (dropped or {}).items() if n}
        self._source = source
        self.own: Mapping[str, Columns] = {
            s.name: source.read(s, 0, source.rows(s)) for s in (EVENTS, STATUS)
        }
        """The log's own tables, events and status, as stored."""
        if not len(self.own[STATUS.name][CRC.name]):
            raise guard.Damaged("damaged log: it has no status")
        self.status, self.heartbeat = newest_status(self.own)
        facts.check_time(self.heartbeat)
        self.alive = not sealed and is_alive(meta, self.status, self.heartbeat)
        self.events = events_of(path, self.own[EVENTS.name])

    @property
    def state(self) -> str:
        """See `Run.state`."""
        return "died" if self.status == "running" and not self.alive else self.status

    def refuse_alive(self, remedy: str) -> None:
        """Refuse a log that is being written.

        Raises:
            InputError: it is being written; names the writer and the remedy.
        """
        if self.alive:
            writer = f"process {self.meta['pid']} on {self.meta['host']}"
            raise InputError(f"{self.path}: still being written by {writer}; {remedy}")

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
        return self._source.rows(self.schema(table))

    def whole(self, table: str) -> Columns:
        """Read and verify all rows of a table at once; choices become texts.

        Raises:
            InputError: it has more bytes than the limit.
            Damaged: a row has a wrong CRC.
        """
        rows, size = self.rows(table), self.schema(table).dtype.itemsize
        if rows * size > guard.MAX_BYTES:
            raise InputError(f"{self.path}: {table} claims {rows * size} bytes")
        return self.slice(table, 0, rows)

    def run(self, tables: Mapping[str, Columns]) -> Run:
        """Give the run with these rows of its tables."""
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
        """Read and verify a table's columns in blocks of `size` rows; choices become texts.

        Raises:
            Damaged: a row has a wrong CRC.
        """
        rows = self.rows(table)
        for start in range(0, rows, size):
            yield self.slice(table, start, min(start + size, rows))

    def verify(self) -> None:
        """Read all rows once.

        Raises:
            Damaged: a row cannot be read.
        """
        if isinstance(self._source, _Growing):
            self._source.replay.verify()
            return
        for name in self.schemas:
            for _ in self.stored(name):
                pass

    def slice(self, table: str, start: int, end: int) -> Columns:
        """Read and verify some rows of a table; choices become texts.

        Raises:
            Damaged: a row has a wrong CRC.
        """
        schema = self.schema(table)
        return decode(schema, self._source.read(schema, start, end))

    def stored(self, table: str, rows: int | None = None) -> Iterator[tuple[int, Columns]]:
        """Read a table's first rows in blocks as stored, each with the number of its first row.

        Args:
            table: its name.
            rows: number of rows; by default all.

        Raises:
            Damaged: a row has a wrong CRC.
        """
        own = {EVENTS.name: EVENTS, STATUS.name: STATUS}
        schema = own.get(table) or self.schema(table)
        rows = self._source.rows(schema) if rows is None else rows
        for start in range(0, rows, BLOCK):
            yield start, self._source.read(schema, start, min(start + BLOCK, rows))

    def windows(self, table: str, size: int = BLOCK) -> Iterator[Columns]:
        """Read blocks that are cut where the step changes, so that no step is split."""
        kept: Columns = {}
        for block in self.blocks(table, size):
            rows = {n: np.concatenate([kept[n], block[n]]) for n in kept} if kept else block
            end = int(np.searchsorted(rows["step"], rows["step"][-1], "left"))
            kept = {name: values[end:] for name, values in rows.items()}
            if end:
                yield {name: values[:end] for name, values in rows.items()}
        if kept:
            yield kept


@contextmanager
def open_log(path: Path | str, whole: bool = True) -> Iterator[LogFile]:
    """Open a log for reading piece by piece.

    Args:
        path: the log.
        whole: read all rows of an unsealed log once, so that rows past a damaged one are counted in
            `dropped`; otherwise damage is noticed only when its row is read.

    Raises:
        InputError: it is not a log, or it is damaged; raised here or inside the block.
    """
    path = Path(path)
    with ExitStack() as stack:
        log = guard.patiently(path, lambda: _opened(path, stack))
        if log is not None and whole and not log.sealed:
            try:
                log.verify()
            except guard.Damaged:
                log = None
        yield log or held(path, read_contents(path))


def held(path: Path, contents: Contents) -> LogFile:
    """Present contents that were read completely as a log that is read piece by piece."""
    return LogFile(
        path,
        _Held(contents),
        contents.meta,
        contents.schemas,
        contents.sealed,
        contents.dropped,
    )


def _opened(path: Path, stack: ExitStack) -> LogFile | None:
    """Open a log until the stack ends; None if its rows are spread over more than one place."""
    with ExitStack() as ours:
        file, fd = ours.enter_context(guard.opened(path))
        meta, schemas = read_head(file)
        if "sealed" in file.attrs:
            has_summary(file, fd)
            log = LogFile(path, _Sealed(file, fd), meta, schemas, True)
        else:
            place = place_of_journal(file, fd, meta, schemas)
            # Before the journal, which never has fewer rows than the datasets.
            claims = [claimed_rows(file, schema) for schema in schemas]
            if place is None:
                return None
            replay = Replay(fd, place)
            if any(has < claim for has, claim in zip(replay.rows, claims, strict=True)):
                return None
            log = LogFile(path, _Growing(replay, schemas), meta, schemas, False)
        stack.push(ours.pop_all())
        return log
