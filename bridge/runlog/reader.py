"""Read a log, whether sealed, still written, or left behind by a crash; every row checked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from bridge.errors import InputError
from bridge.runlog import guard
from bridge.runlog.layout import CRC, meta_crc, stored_dtype
from bridge.runlog.liveness import is_alive
from bridge.runlog.schema import EVENTS, SCHEMA_VERSION, STATUS, TableSchema, schemas_from_json
from bridge.runlog.weights import read_weights

T = TypeVar("T")

# A log that is written changes under the reader; a torn read is seen by its checksum.
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.01
_MAX_META_BYTES = 16 << 20


@dataclass(frozen=True)
class Contents:
    """All that a log holds but weights, as it stands in the file.

    Args:
        meta: the facts about the run.
        schemas: of all tables, the log's own (events, status) last.
        columns: by table and column, `crc` among them; only rows whose CRC is right.
        dropped: by table, rows that are there but cannot be trusted; none is left out.
        sealed: whether the log was sealed.
    """

    meta: dict[str, Any]
    schemas: tuple[TableSchema, ...]
    columns: dict[str, dict[str, NDArray[Any]]]
    dropped: dict[str, int]
    sealed: bool


@dataclass(frozen=True)
class Run:
    """A run as its log tells it.

    Args:
        path: the log.
        meta: the facts about the run: command_line, seed, git_commit, packages, host, ...
        config: the resolved config.
        status: running, finished, failed or stopped, as last written.
        alive: whether a process is still writing the log; a running one that is not alive died.
        heartbeat: when the status was last written, in seconds since 1970.
        sealed: whether the log is an ordinary HDF5 file.
        events: what happened: {"time": seconds since 1970, "kind": ..., ...}.
        dropped: by table, rows that were there but damaged, and are left out.
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
        """The status, but "died" for a run that is running with no process behind it."""
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
        """Read the newest weights that were saved whole.

        Returns:
            The step they belong to, and the tensors by name.

        Raises:
            InputError: no weights were saved, the file is damaged, or it is another run's by now.
        """
        return _patiently(self.path, lambda: _weights(self.path, self.meta["run_id"]))


def read_run(path: Path | str) -> Run:
    """Read a log.

    Args:
        path: a file that `open_run` made; it may still be written.

    Returns:
        The run; all rows that were acknowledged before the call, each verified.

    Raises:
        InputError: no log, or a damaged one. Of an unsealed log the rows before the damage are
            given and those after it counted in `dropped`; a sealed one is refused.
    """
    path = Path(path)
    contents = read_contents(path)
    status, heartbeat = newest_status(contents)
    own = [schema.name for schema in (EVENTS, STATUS)]
    return Run(
        path=path,
        meta=contents.meta,
        config=json.loads(contents.meta["config"]),
        status=status,
        alive=not contents.sealed and is_alive(contents.meta, status, heartbeat),
        heartbeat=heartbeat,
        sealed=contents.sealed,
        events=tuple(_events(contents.columns["events"])),
        dropped={name: n for name, n in contents.dropped.items() if n},
        tables={
            schema.name: decoded(contents, schema.name)
            for schema in contents.schemas
            if schema.name not in own
        },
    )


def read_contents(path: Path, whole: bool = True) -> Contents:
    """Read and verify all that a log holds but weights; see `read_run`.

    Args:
        path: the log.
        whole: False to read the facts and the status only.
    """
    return _patiently(path, lambda: _contents(path, whole), lambda found: not _is_torn(found))


def newest_status(contents: Contents) -> tuple[str, float]:
    """Give the newest status, and when it was written in seconds since 1970."""
    columns = decoded(contents, STATUS.name)
    return str(columns["status"][-1]), float(columns["time"][-1])


def decoded(contents: Contents, name: str) -> dict[str, NDArray[Any]]:
    """Give a table's columns without `crc`, choices as texts."""
    schema = next(schema for schema in contents.schemas if schema.name == name)
    columns = {}
    for column in schema.columns:
        values = contents.columns[name][column.name]
        columns[column.name] = np.array(column.names)[values] if column.names else values
    return columns


def _patiently(
    path: Path, read: Callable[[], T], is_whole: Callable[[T], bool] = lambda _: True
) -> T:
    for attempt in range(_ATTEMPTS):
        try:
            found = read()
        except guard.Damaged:
            if attempt == _ATTEMPTS - 1 or not guard.is_open_for_writing(path):
                raise
        else:
            if attempt == _ATTEMPTS - 1 or is_whole(found) or not guard.is_open_for_writing(path):
                return found
        time.sleep(_PAUSE_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def _is_torn(contents: Contents) -> bool:
    """Tell whether a row was read half, while its writer was at it."""
    return any(contents.dropped.values()) and is_alive(contents.meta, *newest_status(contents))


def _contents(path: Path, whole: bool) -> Contents:
    with guard.opened(path) as file:
        meta = _meta(guard.group(file, "meta"))
        schemas = (*schemas_from_json(meta["tables"]), EVENTS, STATUS)
        sealed = "sealed" in file.attrs
        columns, dropped = {}, {}
        for schema in schemas if whole else (STATUS,):
            columns[schema.name], dropped[schema.name] = _table(file, schema)
            if sealed and dropped[schema.name]:
                row = len(columns[schema.name]["crc"])
                raise guard.Damaged(f"damaged log: /{schema.name}, row {row}")
        if not len(columns[STATUS.name]["crc"]):
            raise guard.Damaged("damaged log: it has no status")
        return Contents(meta, schemas, columns, dropped, sealed)


def _table(file: h5py.File, schema: TableSchema) -> tuple[dict[str, NDArray[Any]], int]:
    """Read the rows up to the first wrong one, and count those from there to the last."""
    group = guard.group(file, schema.name)
    # What the commit column counts has been flushed before it; the others may be longer.
    commit = schema.commit
    claimed = guard.dataset(group, commit.name).shape[0]
    found = {commit.name: guard.read_column(group, commit.name, commit.dtype, claimed)}
    for column in (c for c in (*schema.columns, CRC) if c != commit):
        found[column.name] = guard.read_column(group, column.name, stored_dtype(column), claimed)
    good = schema.good_rows(found, found[CRC.name])
    return {name: values[:good] for name, values in found.items()}, claimed - good


def _meta(group: h5py.Group) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name in sorted(group)[:100]:
        value = guard.read_scalar(guard.dataset(group, name), _MAX_META_BYTES)
        facts[name] = value.decode() if isinstance(value, bytes) else value.item()
    crc = facts.pop("crc", None)
    version = facts.get("schema_version")
    if crc is None or version is None:
        raise InputError("an HDF5 file, but no log of this program")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(f"schema version {version} is newer than this program's {SCHEMA_VERSION}")
    if crc != meta_crc(facts):
        raise guard.Damaged("damaged log: /meta")
    return facts


def _events(columns: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Put the pieces of each event's JSON together; one that a kill cut off is left out."""
    events: list[dict[str, Any]] = []
    pieces: dict[int, bytes] = {}
    rows = (columns[name].tolist() for name in ("time", "event", "last", "json"))
    for moment, number, last, piece in zip(*rows, strict=True):
        pieces[number] = pieces.get(number, b"") + piece
        if last:
            events.append({"time": moment, **json.loads(pieces[number])})
    return events


def _weights(path: Path, run_id: str) -> tuple[int, dict[str, NDArray[Any]]]:
    with guard.opened(path) as file:
        if _meta(guard.group(file, "meta"))["run_id"] != run_id:
            raise InputError("another run's log has taken the place of this one; read it again")
        return read_weights(file)
