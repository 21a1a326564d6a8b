"""Write a log that survives: every row is acknowledged only when a kill can no longer take it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from bridge.errors import StorageError
from bridge.runlog import guard, liveness
from bridge.runlog.faults import reason
from bridge.runlog.layout import CRC, stored_dtype
from bridge.runlog.reserve import Reserve, give_back
from bridge.runlog.schema import EVENTS, STATUS, STATUSES, TableSchema, event_rows, values_of
from bridge.runlog.seal import seal
from bridge.runlog.weights import SLOTS, as_array, write_weights

# Pages that a block of a column may take: its chunk, and blocks of its index.
_COLUMN_BYTES = 3 * 4096


class RunLog:
    """A run's log, open for writing; made by `open_run` and used as a context manager.

    Leaving the block sets the status: "finished", "failed" after an exception, "stopped" after an
    interrupt, or what `status` was set to. Then the log is sealed.
    """

    def __init__(
        self,
        path: Path,
        file: h5py.File,
        tables: Mapping[str, type],
        schemas: Sequence[TableSchema],
        run_id: str,
        kept: Mapping[str, int] | None = None,
        last_step: Mapping[str, int] | None = None,
        saved: int = 0,
    ) -> None:
        """Take over a file that `open_run` or `reopen_run` has laid out; not for others to call.

        The file has `kept` rows by table already, of which `last_step` by table is the last;
        `kept["event"]` counts the events; weights were saved `saved` times.
        """
        kept = kept or {}
        self.path = path
        self.run_id = run_id
        self._file = file
        self._inode = os.fstat(file.id.get_vfd_handle()).st_ino
        self._records = {name: (record, values_of(record)) for name, record in tables.items()}
        self._reserve = Reserve(file)
        self._writers = {
            s.name: _TableWriter(file, s, self._reserve, kept.get(s.name, 0)) for s in schemas
        }
        self._saved = saved
        self._last_step = dict.fromkeys(tables, -1) | dict(last_step or {})
        self._events = kept.get("event", 0)
        self._status = "running"
        liveness.open_here.add(run_id)
        self._beat()

    @property
    def status(self) -> str:
        """running, or what the run ended as: finished, failed, stopped."""
        return self._status

    @status.setter
    def status(self, status: str) -> None:
        if status not in STATUSES:
            raise ValueError(f"status={status!r} must be one of {', '.join(STATUSES)}")
        self._status = status

    def log(self, table: str, record: Any) -> None:
        """Add a row; when this returns, no kill of the process can lose it.

        Args:
            table: the table's name.
            record: an instance of the very class that the table was opened with; its step is not
                smaller than the row's before.

        Raises:
            KeyError: there is no such table.
            TypeError: a record of another class.
            ValueError: a value that does not fit its column, or a smaller step.
            StorageError: the disk is full or fails.
        """
        kind, values = self._records[table]
        if type(record) is not kind:
            raise TypeError(f"{table!r} takes {kind.__name__}, not {type(record).__name__}")
        if record.step < self._last_step[table]:
            before = self._last_step[table]
            raise ValueError(f"{table!r}: step {record.step} comes after step {before}")
        with self._storage():
            self._writers[table].append(values(record))
            self._last_step[table] = record.step
            self._beat_if_due()

    def event(self, kind: str, **data: Any) -> None:
        """Note that something happened.

        Args:
            kind: what, in a word or two.
            data: more about it, as JSON can say it; anything else becomes its text.

        Raises:
            StorageError: the disk is full or fails.
        """
        with self._storage():
            for row in event_rows(time.time(), self._events, {"kind": kind, **data}):
                self._writers[EVENTS.name].append(row)
            self._events += 1
            self._beat_if_due()

    def save_weights(self, step: int, weights: Mapping[str, Any]) -> None:
        """Keep weights; the ones before stay until these are whole.

        Args:
            step: what they belong to, >= 0.
            weights: tensors of the names, shapes and dtypes that the log was opened with.

        Raises:
            ValueError: the log was opened without weights, or for others.
            StorageError: the disk is full or fails.
        """
        if "weights" not in self._file:
            raise ValueError("the log has no place for weights; give open_run(weights=...)")
        arrays = {name: as_array(tensor) for name, tensor in weights.items()}
        with self._storage():
            # Both slots get their room as they are written for the first time.
            if self._saved < SLOTS:
                nbytes = sum(array.nbytes for array in arrays.values())
                self._reserve.hold(nbytes + nbytes // 8)
            write_weights(self._file, step, arrays)
            self._reserve.hold(0)
            self._saved += 1
            self._beat_if_due()

    @property
    def rows(self) -> dict[str, int]:
        """How many rows each table has, without events and status."""
        return {name: self._writers[name].rows for name in self._records}

    def sync(self) -> None:
        """Force everything to the disk, so that not even a power cut takes it.

        Raises:
            StorageError: the disk is full or fails.
        """
        with self._storage():
            self._beat()

    def close(self) -> None:
        """End the run ("finished" unless `status` says otherwise) and seal the log.

        Raises:
            StorageError: the disk is full or fails; what was acknowledged is still in the log.
        """
        if self.run_id not in liveness.open_here:
            return
        if self._status == "running":
            self._status = "finished"
        try:
            with self._storage():
                self._beat()
                self._file.close()
        finally:
            liveness.open_here.discard(self.run_id)
        if not self.path.exists() or self.path.stat().st_ino != self._inode:
            raise StorageError(f"{self.path}: someone has moved or replaced this log as it grew")
        with self._storage():
            give_back(self.path)
        seal(self.path)

    def __enter__(self) -> Self:
        """Give the log itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the log; an exception passes through and is noted as an event."""
        if error is None or self.run_id not in liveness.open_here:
            self.close()
            return
        # What went wrong first is what the user must read.
        with contextlib.suppress(StorageError):
            if self._status == "running":
                stopped = isinstance(error, KeyboardInterrupt | SystemExit)
                self._status = "stopped" if stopped else "failed"
            self.event("exception", type=type(error).__name__, message=str(error))
        with contextlib.suppress(StorageError):
            self.close()

    def _beat_if_due(self) -> None:
        if time.monotonic() >= self._next_beat:
            self._beat()

    def _beat(self) -> None:
        """Write the status and force everything to the disk, against a power cut."""
        self._writers[STATUS.name].append((time.time(), self._status))
        os.fsync(self._file.id.get_vfd_handle())
        self._next_beat = time.monotonic() + liveness.HEARTBEAT_SECONDS

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise StorageError(
                f"{self.path}: cannot be written: {reason(error)}; all rows before are kept, "
                f"make room and seal it: runs recover {self.path}"
            ) from None


class _TableWriter:
    """Appends rows to one table's datasets; the commit column goes last and alone says how many.

    The other columns are longer by up to a block, which readers cut off.
    """

    def __init__(
        self, file: h5py.File, schema: TableSchema, reserve: Reserve, rows: int = 0
    ) -> None:
        self.rows = rows
        self._schema = schema
        self._reserve = reserve
        self._file = file.id
        self._buffer = bytearray(schema.packing.size)
        self._crc = np.zeros(1, stored_dtype(CRC))
        group = guard.group(file, schema.name)
        self._block = min(each.chunks[0] for each in group.values())
        columns, offset = [], 8
        for column in schema.columns:
            memory = np.frombuffer(self._buffer, column.dtype, 1, offset)
            offset += column.dtype.itemsize
            columns.append((column, guard.dataset(group, column.name).id, memory))
        columns.append((CRC, guard.dataset(group, CRC.name).id, self._crc))
        self._others = [(d, m, d.get_type()) for c, d, m in columns if c != schema.commit]
        self._commit = next((d, m, d.get_type()) for c, d, m in columns if c == schema.commit)
        self._one = h5py.h5s.create_simple((1,), (1,))
        self._place: h5py.h5s.SpaceID | None = None

    def append(self, values: Sequence[Any]) -> None:
        row = self.rows
        self._crc[0] = self._schema.pack_into(self._buffer, row, values)
        # Of a log that was reopened, the last block is full only up to its rows.
        starts_block = row % self._block == 0 or self._place is None
        if starts_block:
            self._reserve.hold(_COLUMN_BYTES * len(self._schema.columns))
            self._extend(row)
        self._place.select_hyperslab((row,), (1,))  # type: ignore[union-attr]
        # h5py's own dataset[row] = value costs ten times as much as this.
        for dataset, memory, kind in self._others:
            dataset.write(self._one, self._place, memory, kind)
        h5py.h5f.flush(self._file)
        dataset, memory, kind = self._commit
        dataset.set_extent((row + 1,))
        dataset.write(self._one, self._committed(row), memory, kind)
        h5py.h5f.flush(self._file)
        self.rows = row + 1
        if starts_block:
            self._reserve.hold(0)

    def _extend(self, row: int) -> None:
        """Make the other columns longer by a block; a longer column costs as much as a value."""
        end = (row // self._block + 1) * self._block
        for dataset, _, _ in self._others:
            dataset.set_extent((end,))
        self._place = h5py.h5s.create_simple((end,), (h5py.h5s.UNLIMITED,))

    def _committed(self, row: int) -> Any:
        place = h5py.h5s.create_simple((row + 1,), (h5py.h5s.UNLIMITED,))
        place.select_hyperslab((row,), (1,))
        return place
