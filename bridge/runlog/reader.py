"""Read a log, whether sealed, being written, or left behind by a crash; verify every row."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bridge.errors import InputError
from bridge.runlog import facts, guard
from bridge.runlog.digest import has_summary
from bridge.runlog.journal import Place, find_journal
from bridge.runlog.layout import CRC, meta_crc, stored_dtype
from bridge.runlog.liveness import is_alive
from bridge.runlog.replay import Rows, read_rows
from bridge.runlog.schema import EVENTS, SCHEMA_VERSION, STATUS, TableSchema
from bridge.runlog.weights import read_weights

_MAX_META_BYTES = 16 << 20


@dataclass(frozen=True)
class Contents:
    """Everything in a log except weights, as stored in the file.

    Args:
        meta: the facts about the run.
        schemas: of all tables, the log's own (events, status) last.
        columns: by table and column, including `crc`; only rows with a correct CRC.
        dropped: by table, the number of damaged rows; a table without any is left out.
        sealed: whether the log was sealed.
    """

    meta: dict[str, Any]
    schemas: tuple[TableSchema, ...]
    columns: dict[str, dict[str, NDArray[Any]]]
    dropped: dict[str, int]
    sealed: bool


@dataclass(frozen=True)
class Run:
    """A run as read from its log.

    Args:
        path: the log.
        meta: the facts about the run: command_line, seed, git_commit, packages, host, ...
        config: the resolved config.
        status: running, finished, failed or stopped, as last written.
        alive: whether a process is still writing the log; a run that is "running" but not alive
            died.
        heartbeat: when the status was last written, in seconds since 1970.
        sealed: whether the log is an ordinary HDF5 file.
        events: what happened: {"time": seconds since 1970, "kind": ..., ...}.
        dropped: by table, the number of damaged rows, which are left out.
        tables: the columns of each table, see `table`.
    """

    path: Path
    meta: Mapping[str, Any]
    config: Mapping[str, Any]
    status: str
    alive: bool
    heartbeat: float
    sealed: bool
    events: tuple[Mapping[str, Any], ...]
    dropped: Mapping[str, int]
    tables: Mapping[str, Mapping[str, NDArray[Any]]] = field(repr=False)

    @property
    def state(self) -> str:
        """The status, but "died" for a running run without a process."""
        return "died" if self.status == "running" and not self.alive else self.status

    def table(self, name: str = "metrics") -> Mapping[str, NDArray[Any]]:
        """Give a table's columns; choices as texts.

        Raises:
            InputError: there is no such table.
        """
        if name not in self.tables:
            legal = ", ".join(self.tables)
            raise InputError(f"{self.path}: no table {name!r}; it has {legal}")
        return self.tables[name]

    def weights(self) -> tuple[int, dict[str, NDArray[Any]]]:
        """Read the newest weights that were saved completely.

        Returns:
            The step they belong to, and the tensors by name.

        Raises:
            InputError: no weights were saved, the file is damaged, or it is another run's by now.
        """
        return guard.patiently(self.path, lambda: _weights(self.path, self.meta["run_id"]))


def read_run(path: Path | str) -> Run:
    """Read a log.

    Args:
        path: a file that `open_run` made; it may still be written.

    Returns:
        The run; it has all rows that were acknowledged before the call, each verified.

    Raises:
        InputError: the log is missing or damaged. For an unsealed log the rows before the damage
            are given and those after it counted in `dropped`; a damaged sealed log is refused.
    """
    path = Path(path)
    contents = read_contents(path)
    status, heartbeat = newest_status(contents.columns)
    return Run(
        path=path,
        meta=contents.meta,
        config=facts.from_json(contents.meta["config"]),
        status=status,
        alive=not contents.sealed and is_alive(contents.meta, status, heartbeat),
        heartbeat=heartbeat,
        sealed=contents.sealed,
        events=events_of(path, contents.columns["events"]),
        dropped={name: n for name, n in contents.dropped.items() if n},
        tables={
            schema.name: decoded(contents, schema.name)
            for schema in contents.schemas
            if schema not in (EVENTS, STATUS)
        },
    )


def read_contents(path: Path) -> Contents:
    """Read and verify everything in a log except weights; see `read_run`."""
    reads = itertools.count()

    def is_whole(found: Contents) -> bool:
        """Whether no row was read incompletely because its writer was busy, or had just ended."""
        lost = any(found.dropped.values())
        again = next(reads) == 0 or is_alive(found.meta, *newest_status(found.columns))
        return found.sealed or not (lost and again)

    return guard.patiently(path, lambda: _contents(path), is_whole)


def newest_status(tables: Mapping[str, Mapping[str, NDArray[Any]]]) -> tuple[str, float]:
    """Give the newest status, and when it was written in seconds since 1970.

    Args:
        columns: as stored, by table.
    """
    columns = decode(STATUS, tables[STATUS.name])
    return str(columns["status"][-1]), float(columns["time"][-1])


def decoded(contents: Contents, name: str) -> dict[str, NDArray[Any]]:
    """Give a table's columns without `crc`, choices as texts."""
    schema = next(schema for schema in contents.schemas if schema.name == name)
    return decode(schema, contents.columns[name])


def decode(schema: TableSchema, stored: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Decode columns, without `crc`: choices become texts."""
    columns = {}
    for column in schema.columns:
        values = stored[column.name]
        columns[column.name] = np.array(column.names)[values] if column.names else values
    return columns


def _contents(path: Path) -> Contents:
    with guard.opened(path) as (file, fd):
        meta, schemas = read_head(file)
        sealed = "sealed" in file.attrs
        if sealed:
            has_summary(file, fd)
        place = None if sealed else place_of_journal(file, fd, meta, schemas)
        if place is None:
            found = {s.name: read_table(file, fd, s, sealed) for s in schemas}
        else:
            # Before the journal, which never has fewer rows than the datasets.
            claims = {s.name: claimed_rows(file, s) for s in schemas}
            pieces = read_rows(fd, place)
            found = {
                s.name: _joined(file, fd, s, pieces[schemas.index(s)], claims[s.name])
                for s in schemas
            }
        columns = {name: each[0] for name, each in found.items()}
        dropped = {name: each[1] for name, each in found.items()}
        if not len(columns[STATUS.name][CRC.name]):
            raise guard.Damaged("damaged log: it has no status")
        facts.check_time(float(columns[STATUS.name]["time"][-1]))
        return Contents(meta, schemas, columns, dropped, sealed)


def read_head(file: h5py.File) -> tuple[dict[str, Any], tuple[TableSchema, ...]]:
    """Read and check the facts about a run, and the schemas of all tables, the log's own last.

    Raises:
        InputError: it is not a log, or it was written by a newer program.
        Damaged: their checksum is wrong.
        ValueError: they are invalid.
    """
    meta = _meta(guard.group(file, "meta"))
    return meta, facts.schemas_from_json(str(meta["tables"]))


def place_of_journal(
    file: h5py.File, fd: int, meta: Mapping[str, Any], schemas: tuple[TableSchema, ...]
) -> Place | None:
    """Find the journal of a log that is not sealed; None if it can no longer be found."""
    with contextlib.suppress(InputError, *guard.DAMAGE):
        return find_journal(file, meta["run_id"], schemas, os.fstat(fd).st_size)
    return None


def claimed_rows(file: h5py.File, schema: TableSchema) -> int:
    """Give the number of rows that a table's datasets claim; 0 if they cannot be read."""
    with contextlib.suppress(InputError, *guard.DAMAGE):
        group = guard.group(file, schema.name)
        return guard.stored_rows(guard.dataset(group, schema.commit.name))
    return 0


def _joined(
    file: h5py.File, fd: int, schema: TableSchema, pieces: list[Rows], claimed: int
) -> tuple[dict[str, NDArray[Any]], int]:
    """Join a table's rows from the journal; where it is damaged, use the datasets too."""
    end = max([claimed, *(piece.end for piece in pieces)])
    if len(pieces) == 1 and (pieces[0].first, pieces[0].end) == (0, end):
        return unpacked(schema, pieces[0]), 0
    empty = Rows(0)
    columns = unpacked(schema, empty)
    with contextlib.suppress(InputError, *guard.DAMAGE):
        columns, _ = read_table(file, fd, schema, False)
    n = len(columns[CRC.name])
    for piece in pieces:
        if piece.first <= n < piece.end:
            more = unpacked(schema, piece.part(n, piece.end, schema.packing.size))
            columns = {name: np.concatenate([columns[name], more[name]]) for name in columns}
            n = piece.end
    return columns, end - n


def unpacked(schema: TableSchema, rows: Rows) -> dict[str, NDArray[Any]]:
    """Convert rows from the journal to columns as stored, including `crc`."""
    columns = schema.unpacked(rows.packed)
    check_values(schema, columns)
    return {**columns, CRC.name: np.array(rows.crcs, stored_dtype(CRC))}


def read_table(
    file: h5py.File, fd: int, schema: TableSchema, sealed: bool
) -> tuple[dict[str, NDArray[Any]], int]:
    """Read the rows up to the first wrong one, and count the rows from there to the last."""
    group = guard.group(file, schema.name)
    # Rows that the commit column counts were flushed before it; other columns may be longer.
    commit = schema.commit
    claimed = guard.dataset(group, commit.name).shape[0]
    columns = (*schema.columns, CRC)
    if not sealed:
        stored = [guard.stored_rows(guard.dataset(group, c.name)) for c in columns]
        claimed = min([claimed, *stored])
    # If columns are links to one dataset, they could claim its size again and again.
    total = claimed * sum(stored_dtype(c).itemsize for c in columns)
    if total > os.fstat(fd).st_size:
        raise guard.Damaged(f"/{schema.name} claims {total} bytes, but the file has fewer")
    found = {
        c.name: guard.read_column(group, c.name, stored_dtype(c), claimed)
        for c in sorted(columns, key=lambda c: c != commit)
    }
    good = schema.good_rows(found, found[CRC.name])
    if sealed and good < claimed:
        raise guard.Damaged(f"damaged log: /{schema.name}, row {good}")
    found = {name: values[:good] for name, values in found.items()}
    check_values(schema, found)
    return found, claimed - good


def check_values(schema: TableSchema, columns: Mapping[str, NDArray[Any]]) -> None:
    """Refuse codes without a meaning, even with correct checksums."""
    for column in schema.columns:
        if column.kind in ("choice", "bool") and len(columns[column.name]):
            legal = len(column.names) if column.kind == "choice" else 2
            if int(columns[column.name].view(np.uint8).max()) >= legal:
                raise InputError(f"/{schema.name}/{column.name} has a code that means nothing")


def _meta(group: h5py.Group) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in sorted(group)[:100]:
        value = guard.read_scalar(guard.dataset(group, name), _MAX_META_BYTES)
        found[name] = value.decode() if isinstance(value, bytes) else value.item()
    crc = found.pop("crc", None)
    version = found.get("schema_version")
    if crc is None or version is None:
        raise InputError("an HDF5 file, but no log of this program")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(f"schema version {version} is newer than this program's {SCHEMA_VERSION}")
    if crc != meta_crc(found):
        raise guard.Damaged("damaged log: /meta")
    facts.check_facts(found)
    return found


def events_of(path: Path, columns: Mapping[str, NDArray[Any]]) -> tuple[dict[str, Any], ...]:
    """Join the pieces of each event's JSON; an event that was cut off is left out.

    Raises:
        InputError: an event is invalid.
    """
    events: list[dict[str, Any]] = []
    # Grouped by moment too: old logs reused the number of an event that the disk had cut off.
    pieces: dict[tuple[int, float], bytes] = {}
    rows = (columns[name].tolist() for name in ("time", "event", "last", "json"))
    try:
        for moment, number, last, piece in zip(*rows, strict=True):
            which = number, moment
            pieces[which] = pieces.get(which, b"") + piece
            if last:
                events.append(facts.event(moment, pieces.pop(which)))
    except ValueError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}; this is no run log") from None
    return tuple(events)


def _weights(path: Path, run_id: str) -> tuple[int, dict[str, NDArray[Any]]]:
    with guard.opened(path) as (file, _):
        if _meta(guard.group(file, "meta"))["run_id"] != run_id:
            raise InputError("another run's log has taken the place of this one; read it again")
        return read_weights(file)
