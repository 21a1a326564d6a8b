"""Make an ordinary HDF5 file of a log: at the end of a run, or after a crash."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bridge.disk import force
from bridge.errors import InputError, StorageError
from bridge.runlog.digest import summarise, table_figures, write_summary
from bridge.runlog.faults import reason
from bridge.runlog.layout import (
    CRC,
    LIBVER,
    chunk_rows,
    create_meta,
    create_root,
    create_table,
    stored_dtype,
)
from bridge.runlog.liveness import is_alive
from bridge.runlog.provenance import process_identity
from bridge.runlog.reader import Contents, decoded, events_of, newest_status, read_contents
from bridge.runlog.reserve import Reserve, give_back
from bridge.runlog.schema import EVENTS, STATUS, event_rows
from bridge.runlog.weights import create_weights, weights_in, write_weights

# A dataset's header and the index of its chunks; generous, for what is too much is given back.
_DATASET_BYTES = 4096


def seal(path: Path) -> None:
    """Replace a closed log by a compact copy that any HDF5 reader opens.

    The copy is made beside it, as FILE.tmp.PID, verified on the way, forced to the disk and then
    renamed: at every moment FILE is one of the two.

    Raises:
        StorageError: the disk is full or fails, or a row that was written cannot be read back;
            FILE is then left as it is.
    """
    try:
        contents = read_contents(path)
    except InputError as error:
        raise StorageError(f"{error}; the disk did not keep what was written") from None
    lost = {name: n for name, n in contents.dropped.items() if n}
    if lost:
        raise StorageError(f"{path}: rows written but damaged on the disk: {lost}; left unsealed")
    _replace(path, contents)


def recover(path: Path | str) -> Mapping[str, int]:
    """Seal the log of a run that was killed; one that is sealed already stays as it is.

    The log's status becomes "failed" if it was "running", and an event "recovered" is added.

    Args:
        path: the log.

    Returns:
        By table, rows that were damaged and are left out; empty after a mere kill.

    Raises:
        InputError: no log, or one that is still being written.
        StorageError: the disk is full or fails.
    """
    path = Path(path)
    contents = read_contents(path)
    if contents.sealed:
        return {}
    status, heartbeat = newest_status(contents)
    if is_alive(contents.meta, status, heartbeat):
        raise InputError(
            f"{path}: still being written by process {contents.meta['pid']} on "
            f"{contents.meta['host']}; wait for its end, or stop it"
        )
    dropped = {name: n for name, n in contents.dropped.items() if n}
    number = int(contents.columns["events"]["event"].max(initial=-1)) + 1
    rows = event_rows(time.time(), number, {"kind": "recovered", "dropped": dropped})
    _append(contents, EVENTS.name, rows)
    if status == "running":
        _append(contents, STATUS.name, [(time.time(), "failed")])
    _replace(path, contents)
    remove_leftovers(path)
    return dropped


def copy_as_it_stands(path: Path, contents: Contents, target: Path) -> None:
    """Write what a log holds now into a new, ordinary HDF5 file elsewhere.

    Raises:
        StorageError: the disk is full or fails.
    """
    try:
        with h5py.File(target, "w", libver=LIBVER) as file:
            write_sealed(file, contents, weights_in(path))
    except (OSError, RuntimeError) as error:
        raise StorageError(f"{target}: cannot be written: {reason(error)}") from None


def remove_leftovers(path: Path) -> None:
    """Remove the files that killed processes had begun to make a log, or a sealed one, of."""
    for kind in ("tmp", "new"):
        for leftover in path.parent.glob(f"{path.name}.{kind}.*"):
            pid = leftover.name.rpartition(".")[2]
            if pid.isdigit() and not process_identity(int(pid)):
                with contextlib.suppress(OSError):
                    leftover.unlink()


def _replace(path: Path, contents: Contents) -> None:
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        with h5py.File(temporary, "w", libver=LIBVER) as file:
            write_sealed(file, contents, weights_in(path))
        give_back(temporary)
        force(temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(
            f"{path}: cannot be sealed: {reason(error)}; all rows are kept, make room and seal it: "
            f"runs recover {path}"
        ) from None
    force(path.parent)


def write_sealed(
    file: h5py.File, contents: Contents, weights: tuple[int, dict[str, NDArray[Any]]] | None
) -> None:
    """Write a sealed log into a new file.

    Args:
        file: the file.
        contents: all but the weights.
        weights: their step and the tensors; None if there are none.
    """
    Reserve(file).hold(_room(contents, weights))
    names = [s.name for s in contents.schemas if s not in (EVENTS, STATUS)]
    create_root(file, names)
    file.attrs["sealed"] = True
    figures = {name: table_figures(decoded(contents, name)) for name in names}
    events = events_of(Path(file.filename), contents.columns[EVENTS.name])
    write_summary(file, summarise(contents.meta, *newest_status(contents), events, figures))
    create_meta(file, contents.meta)
    for schema in contents.schemas:
        columns = contents.columns[schema.name]
        for name, each in create_table(file, schema, len(columns[CRC.name])).items():
            each[...] = columns[name]
    if weights is not None:
        create_weights(file, weights[1], slots=1)
        write_weights(file, *weights)


def _room(contents: Contents, weights: tuple[int, dict[str, NDArray[Any]]] | None) -> int:
    """Bound the bytes of the copy: whole chunks of all columns, the weights, and the headers."""
    rows = datasets = 0
    for schema in contents.schemas:
        for column in (*schema.columns, CRC):
            n = len(contents.columns[schema.name][column.name])
            chunk = chunk_rows(column, n)
            rows += -(-n // chunk) * chunk * stored_dtype(column).itemsize
            datasets += 1
    tensors = sum(each.nbytes for each in weights[1].values()) if weights else 0
    facts = sum(len(str(fact)) for fact in contents.meta.values())
    facts += 500 * datasets  # in the summary
    headers = _DATASET_BYTES * (datasets + len(contents.meta) + len(weights[1] if weights else ()))
    return rows + rows // 8 + tensors + tensors // 4 + facts + headers


def _append(contents: Contents, table: str, rows: list[tuple[Any, ...]]) -> None:
    schema = next(schema for schema in contents.schemas if schema.name == table)
    columns = contents.columns[table]
    for i, column in enumerate(schema.columns):
        values = [column.names.index(row[i]) if column.names else row[i] for row in rows]
        columns[column.name] = np.append(columns[column.name], np.array(values, column.dtype))
    columns[CRC.name] = schema.crcs(columns)
