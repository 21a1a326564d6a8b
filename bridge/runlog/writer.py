"""Write a log that survives: a row is acknowledged only once no kill can lose it."""

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

from bridge.errors import LogGone, StorageError
from bridge.runlog import guard, liveness
from bridge.runlog.faults import reason
from bridge.runlog.journal import Journal
from bridge.runlog.layout import CRC, stored_dtype
from bridge.runlog.reserve import Reserve, give_back
from bridge.runlog.schema import EVENTS, STATUS, STATUSES, TableSchema, event_rows, values_of
from bridge.runlog.seal import seal
from bridge.runlog.weights import SLOTS, as_array, write_weights

SHOW_SECONDS = 1.0
"""Seconds until programs that read the datasets themselves see a row, at most."""

_SHOW_SHARE = 0.01
"""Share of the time that showing rows to such programs may take."""
_FIRST_ROWS = 16
"""Rows of a table that are shown at once, so that there is something to see from the start."""

_KEPT_ROWS = 1 << 14
"""Rows of a continued log that are in memory at a time."""
# Pages that a block of a column may take: its chunk, and blocks of its index.
_COLUMN_BYTES = 3 * 4096


class RunLog:
    """A run's log, open for writing; created by `open_run` and used as a context manager.

    On leaving the block the status becomes "finished", "failed" after an exception, "stopped" after
    an interrupt, or what `status` was set to. Then the log is sealed.
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
        """Take over a file that `open_run` or `reopen_run` has laid out; not for other callers.

        The file already has `kept` rows by table, whose last steps are `last_step` by table;
        `kept["event"]` counts the events; weights were saved `saved` times.
        """
        kept = kept or {}
        self.path = path
        self.run_id = run_id
        # Code that completes its step first checks itself whether the file is gone.
        self.defers_loss = False
        self.gone: LogGone | None = None
        # A folder whose files go into the sealed log, and their step.
        self.keep: tuple[Path, int] | None = None
        self._file = file
        self._inode = os.fstat(file.id.get_vfd_handle()).st_ino
        self._records = {name: (record, values_of(record)) for name, record in tables.items()}
        self._reserve = Reserve(file)
        journal = Journal(file, schemas, run_id, self._reserve)
        self._writers = {
            s.name: _TableWriter(file, s, journal, i, self._reserve, kept.get(s.name, 0))
            for i, s in enumerate(schemas)
        }
        self._saved = saved
        self._weights_forced = True
        self._last_step = dict.fromkeys(tables, -1) | dict(last_step or {})
        self._events = kept.get("event", 0)
        self._status = "running"
        liveness.open_here.add(run_id)
        self._beat(named=False)

    @property
    def status(self) -> str:
        """running, or how the run ended: finished, failed, stopped."""
        return self._status

    @status.setter
    def status(self, status: str) -> None:
        if status not in STATUSES:
            raise ValueError(f"status={status!r} must be one of {', '.join(STATUSES)}")
        self._status = status

    def log(self, table: str, record: Any) -> None:
        """Add a row; once this returns, no kill of the process can lose it.

        Args:
            table: the table's name.
            record: an instance of the class that the table was opened with; its step is not smaller
                than that of the row before.

        Raises:
            KeyError: there is no such table.
            TypeError: the record is of another class.
            ValueError: a value does not fit its column, or the step is smaller.
            StorageError: the disk is full or fails.
        """
        kind, values = self._records[table]
        if type(record) is not kind:
            raise TypeError(f"{table!r} takes {kind.__name__}, not {type(record).__name__}")
        if record.step < self._last_step[table]:
            before = self._last_step[table]
            raise ValueError(f"{table!r}: step {record.step} comes after step {before}")
        with self._storage():
            full = self._writers[table].append(values(record))
            self._last_step[table] = record.step
            self._after_row(full)

    def event(self, kind: str, **data: Any) -> None:
        """Record an event.

        Args:
            kind: what happened, in a word or two.
            data: more about it, as JSON values; anything else becomes its text.

        Raises:
            StorageError: the disk is full or fails.
        """
        with self._storage():
            full, number = False, self._events
            # The number is used up even if part of the event cannot be written: no other event
            # reuses it.
            self._events += 1
            for row in event_rows(time.time(), number, {"kind": kind, **data}):
                full = self._writers[EVENTS.name].append(row)
            self._after_row(full)

    def save_weights(self, step: int, weights: Mapping[str, Any]) -> None:
        """Save weights; the previous ones stay until these are complete.

        Args:
            step: the step of the weights, >= 0.
            weights: tensors with the names, shapes and dtypes that the log was opened with.

        Raises:
            ValueError: the log was opened without weights, or with others.
            StorageError: the disk is full or fails.
        """
        if "weights" not in self._file:
            raise ValueError("the log has no place for weights; give open_run(weights=...)")
        arrays = {name: as_array(tensor) for name, tensor in weights.items()}
        with self._storage():
            # Both slots get their room when the first weights are written.
            if not self._saved:
                nbytes = SLOTS * sum(array.nbytes for array in arrays.values())
                self._reserve.hold(nbytes + nbytes // 8)
            # The last save must be on the disk before the slot of the last forced save is reused.
            if not self._weights_forced:
                self._force()
            write_weights(self._file, step, arrays)
            self._weights_forced = False
            self._reserve.hold(0)
            self._saved += 1
            self._beat_if_due()

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows of each table, without events and status."""
        return {name: self._writers[name].rows for name in self._records}

    def sync(self) -> None:
        """Force everything to the disk, so that it survives even a power cut.

        Raises:
            StorageError: the disk is full or fails.
        """
        with self._storage():
            self._beat()

    def close(self) -> None:
        """End the run ("finished" unless `status` says otherwise) and seal the log.

        Raises:
            LogGone: the log was deleted, moved or replaced.
            StorageError: the disk is full or fails; acknowledged rows are still in the log.
        """
        if self.run_id not in liveness.open_here:
            return
        if self._status == "running":
            self._status = "finished"
        try:
            with self._storage():
                self.defers_loss = True
                self._beat()
                self._file.close()
        finally:
            liveness.open_here.discard(self.run_id)
        if self.gone is not None:
            raise self.gone
        with self._storage():
            in_place = self.path.exists() and self.path.stat().st_ino == self._inode
        if not in_place:
            raise LogGone(f"{self.path}: this log was moved or replaced while the run wrote it")
        with self._storage():
            give_back(self.path)
        seal(self.path, self.keep)

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the log; an exception is recorded as an event and passes through."""
        if error is None or self.run_id not in liveness.open_here:
            self.close()
            return
        # The user must see the first error.
        with contextlib.suppress(StorageError):
            if self._status == "running":
                stopped = isinstance(error, KeyboardInterrupt | SystemExit)
                self._status = "stopped" if stopped else "failed"
            self.event("exception", type=type(error).__name__, message=str(error))
        with contextlib.suppress(StorageError):
            self.close()

    def _after_row(self, full: bool) -> None:
        """Show rows to other programs if they are the first, many, or have waited long enough."""
        now = time.monotonic()
        if full or now >= self._next_show:
            self._show()
        if now >= self._next_beat:
            self._beat()

    def _show(self) -> None:
        began = time.monotonic()
        for writer in self._writers.values():
            writer.show()
        now = time.monotonic()
        self._next_show = now + max(SHOW_SECONDS, (now - began) / _SHOW_SHARE)

    def _beat_if_due(self) -> None:
        if time.monotonic() >= self._next_beat:
            self._beat()

    def _beat(self, named: bool = True) -> None:
        """Write the status and force everything to the disk, against a power cut.

        Raises:
            LogGone: the file was deleted, moved or replaced, if it was already `named`.
        """
        self._writers[STATUS.name].append((time.time(), self._status))
        self._show()
        self._force()
        try:
            if named:
                liveness.require_in_place(self.path, self._file.id.get_vfd_handle())
        except LogGone as error:
            self.gone = error
            if not self.defers_loss:
                raise
        self._next_beat = time.monotonic() + liveness.HEARTBEAT_SECONDS

    def _force(self) -> None:
        os.fsync(self._file.id.get_vfd_handle())
        self._weights_forced = True

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except LogGone:
            raise
        except (OSError, RuntimeError) as error:
            raise StorageError(
                f"{self.path}: cannot be written: {reason(error)}; all rows before are kept, "
                f"make room and seal it: runs recover {self.path}"
            ) from None


class _TableWriter:
    """Appends rows to the journal, and copies them into one table's datasets for other programs.

    The commit column is written last and alone defines the number of rows. The other columns are
    longer by up to a block, which readers cut off.
    """

    def __init__(
        self,
        file: h5py.File,
        schema: TableSchema,
        journal: Journal,
        number: int,
        reserve: Reserve,
        rows: int = 0,
    ) -> None:
        self.rows = rows
        self._shown = rows
        self._schema = schema
        self._reserve = reserve
        self._file = file.id
        self._journal = journal
        self._number = number
        self._buffer = bytearray(schema.packing.size)
        self._waiting = bytearray()
        self._crcs: list[int] = []
        group = guard.group(file, schema.name)
        self._block = min(each.chunks[0] for each in group.values())
        self._end = rows
        columns = [
            (c, d := guard.dataset(group, c.name).id, d.get_type()) for c in (*schema.columns, CRC)
        ]
        self._others = [(c.name, d, t) for c, d, t in columns if c != schema.commit]
        self._commit = next((c.name, d, t) for c, d, t in columns if c == schema.commit)
        for start in range(0, rows, _KEPT_ROWS):
            kept = {c: d[start : min(start + _KEPT_ROWS, rows)] for c, d in group.items()}
            journal.append_all(number, schema.packed(kept, start), kept[CRC.name].tolist())

    def append(self, values: Sequence[Any]) -> bool:
        """Add a row; tell whether it must be shown at once."""
        crc = self._schema.pack_into(self._buffer, self.rows, values)
        self._journal.append(self._number, self._buffer, crc)
        self._waiting += self._buffer
        self._crcs.append(crc)
        self.rows += 1
        return self.rows <= _FIRST_ROWS or len(self._crcs) >= self._block

    def show(self) -> None:
        """Copy the waiting rows into the datasets."""
        if not self._crcs:
            return
        start, end = self._shown, self.rows
        found = np.frombuffer(bytes(self._waiting), self._schema.dtype)
        values = {name: np.ascontiguousarray(found[name]) for name in found.dtype.names or ()}
        values[CRC.name] = np.array(self._crcs, stored_dtype(CRC))
        longer = end > self._end
        if longer:
            blocks = -(-end // self._block) - self._end // self._block
            self._reserve.hold(blocks * _COLUMN_BYTES * len(values))
            # Extended by a whole block: extending a column costs as much as writing a value.
            self._end = -(-end // self._block) * self._block
            for _, dataset, _ in self._others:
                dataset.set_extent((self._end,))
        memory = h5py.h5s.create_simple((end - start,))
        # h5py's own dataset[rows] = values costs ten times as much.
        for name, dataset, kind in self._others:
            dataset.write(memory, _place(self._end, start, end), values[name], kind)
        h5py.h5f.flush(self._file)
        name, dataset, kind = self._commit
        dataset.set_extent((end,))
        dataset.write(memory, _place(end, start, end), values[name], kind)
        h5py.h5f.flush(self._file)
        self._shown = end
        self._waiting.clear()
        self._crcs.clear()
        if longer:
            self._reserve.hold(0)


def _place(rows: int, start: int, end: int) -> h5py.h5s.SpaceID:
    """Select rows of a column of the given length."""
    place = h5py.h5s.create_simple((rows,), (h5py.h5s.UNLIMITED,))
    place.select_hyperslab((start,), (end - start,))
    return place
