"""Turn a log into an ordinary HDF5 file, at the end of a run or after a crash."""

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
from bridge.runlog import guard
from bridge.runlog.digest import (
    join_figures,
    place_summary,
    summarise,
    table_figures,
    write_summary,
)
from bridge.runlog.facts import TableFigures
from bridge.runlog.faults import reason
from bridge.runlog.keeping import kept_step, put_files, size_of
from bridge.runlog.layout import (
    CRC,
    LIBVER,
    chunk_rows,
    create_meta,
    create_root,
    create_table,
    stored_dtype,
)
from bridge.runlog.provenance import process_identity
from bridge.runlog.reader import decode, events_of, newest_status
from bridge.runlog.reserve import Reserve, give_back
from bridge.runlog.results import headline_of, numbers_in, result_of
from bridge.runlog.schema import EVENTS, STATUS, TableSchema, event_rows
from bridge.runlog.stream import Columns, LogFile, open_log
from bridge.runlog.weights import create_weights, weights_in, write_weights

# Bytes of a dataset's header and chunk index; a generous estimate, for the excess is given back.
_DATASET_BYTES = 4096


def seal(path: Path, keep: tuple[Path, int] | None = None) -> None:
    """Replace a closed log by a compact copy that any HDF5 reader can open.

    The copy is written next to it as FILE.tmp.PID, verified on the way, forced to the disk and then
    renamed. At every moment FILE is one of the two.

    Args:
        path: the log.
        keep: a folder whose files are added to the log, and their step, see `keeping`.

    Raises:
        StorageError: the disk is full or fails, or a row that was written cannot be read back; FILE
            then stays as it is.
    """
    try:
        with open_log(path, whole=False) as log:
            if log.dropped:
                raise guard.Damaged(f"{path}: rows written but damaged: {log.dropped}")
            _replace(path, log, log.own, keep)
    except InputError as error:
        raise StorageError(
            f"{error}; the disk did not keep what was written, {path} is left unsealed"
        ) from None


def recover(path: Path | str, keep: tuple[Path, int] | None = None) -> Mapping[str, int]:
    """Seal the log of a run that was killed; a sealed log stays as it is.

    The log's status becomes "failed" if it was "running", and an event "recovered" is added.

    Args:
        path: the log.
        keep: see `seal`; also added to a sealed log that has none.

    Returns:
        By table, the number of damaged rows, which are left out; empty after a mere kill.

    Raises:
        InputError: it is not a log, or it is still being written.
        StorageError: the disk is full or fails.
    """
    path = Path(path)
    with open_log(path) as log:
        if log.sealed:
            if keep is not None and kept_step(path) is None:
                _replace(path, log, log.own, keep)
            return {}
        log.refuse_alive("wait for its end, or stop it")
        own = dict(log.own)
        number = int(own[EVENTS.name]["event"].max(initial=-1)) + 1
        event = event_rows(time.time(), number, {"kind": "recovered", "dropped": log.dropped})
        own[EVENTS.name] = _longer(EVENTS, own[EVENTS.name], event)
        if log.status == "running":
            own[STATUS.name] = _longer(STATUS, own[STATUS.name], [(time.time(), "failed")])
        _replace(path, log, own, keep)
    remove_leftovers(path)
    return log.dropped


def copy_as_it_stands(log: LogFile, target: Path) -> None:
    """Write the current content of a log into a new, ordinary HDF5 file elsewhere.

    Raises:
        StorageError: the disk is full or fails.
    """
    try:
        with h5py.File(target, "w", libver=LIBVER) as file:
            write_sealed(file, log, log.own, weights_in(log.path))
    except InputError:
        raise
    except (OSError, RuntimeError) as error:
        raise StorageError(f"{target}: cannot be written: {reason(error)}") from None


def remove_leftovers(path: Path) -> None:
    """Remove unfinished logs and sealed copies that killed processes have left."""
    for kind in ("tmp", "new"):
        for leftover in path.parent.glob(f"{path.name}.{kind}.*"):
            pid = leftover.name.rpartition(".")[2]
            if pid.isdigit() and not process_identity(int(pid)):
                with contextlib.suppress(OSError):
                    leftover.unlink()


def _replace(
    path: Path, log: LogFile, own: Mapping[str, Columns], keep: tuple[Path, int] | None
) -> None:
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        with h5py.File(temporary, "w", libver=LIBVER) as file:
            write_sealed(file, log, own, weights_in(path), size_of(keep[0]) if keep else 0)
            if keep is not None:
                put_files(file, *keep)
        give_back(temporary)
        force(temporary)
        os.replace(temporary, path)
    except InputError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(
            f"{path}: cannot be sealed: {reason(error)}; all rows are kept, make room and seal it: "
            f"runs recover {path}"
        ) from None
    force(path.parent)


def write_sealed(
    file: h5py.File,
    log: LogFile,
    own: Mapping[str, Columns],
    weights: tuple[int, dict[str, NDArray[Any]]] | None,
    more: int = 0,
) -> None:
    """Write a sealed log into a new file, piece by piece.

    Args:
        file: the file.
        log: the log to copy, except its own tables and the weights.
        own: events and status, as stored.
        weights: their step, and the tensors; None if there are none.
        more: number of bytes that will be written after it.

    Raises:
        Damaged: a row cannot be read.
    """
    schemas = {**log.schemas, EVENTS.name: EVENTS, STATUS.name: STATUS}
    rows = {name: log.rows(name) for name in log.schemas}
    rows |= {name: len(columns[CRC.name]) for name, columns in own.items()}
    Reserve(file).hold(_room(schemas, rows, log.meta, weights) + more)
    headline = headline_of(log.meta, numbers_in(log.schemas.values()))
    create_root(file, list(log.schemas), headline)
    file.attrs["sealed"] = True
    place_summary(file)
    create_meta(file, log.meta)
    figures = {}
    for name, schema in schemas.items():
        datasets = create_table(file, schema, rows[name], headline)
        if name in own:
            for column, each in datasets.items():
                each[...] = own[name][column]
        else:
            figures[name] = _copy(log, name, datasets)
    if weights is not None:
        create_weights(file, weights[1], slots=1)
        write_weights(file, *weights)
    events = events_of(log.path, own[EVENTS.name])
    result = result_of(log, headline)
    status = newest_status(own)
    write_summary(file, summarise(log.meta, *status, events, figures, headline, result))


def _copy(log: LogFile, name: str, datasets: Mapping[str, h5py.Dataset]) -> TableFigures:
    schema, figures = log.schema(name), table_figures(log.slice(name, 0, 0))
    for start, stored in log.stored(name):
        end = start + len(stored[CRC.name])
        for column, each in datasets.items():
            each[start:end] = stored[column]
        figures = join_figures(figures, table_figures(decode(schema, stored)))
    return figures


def _room(
    schemas: Mapping[str, TableSchema],
    rows: Mapping[str, int],
    meta: Mapping[str, Any],
    weights: tuple[int, dict[str, NDArray[Any]]] | None,
) -> int:
    """Bound the bytes of the copy: whole chunks of all columns, the weights, and the headers."""
    nbytes = datasets = 0
    for name, schema in schemas.items():
        for column in (*schema.columns, CRC):
            chunk = chunk_rows(column, rows[name])
            nbytes += -(-rows[name] // chunk) * chunk * stored_dtype(column).itemsize
            datasets += 1
    tensors = sum(each.nbytes for each in weights[1].values()) if weights else 0
    facts = sum(len(str(fact)) for fact in meta.values())
    facts += 500 * datasets + 2 * len(str(meta["config"]))  # in the summary
    headers = _DATASET_BYTES * (datasets + len(meta) + len(weights[1] if weights else ()))
    return nbytes + nbytes // 8 + tensors + tensors // 4 + facts + headers


def _longer(schema: TableSchema, columns: Columns, rows: list[tuple[Any, ...]]) -> Columns:
    """Append rows to a table."""
    found = {}
    for i, column in enumerate(schema.columns):
        values = [column.names.index(row[i]) if column.names else row[i] for row in rows]
        found[column.name] = np.append(columns[column.name], np.array(values, column.dtype))
    return {**found, CRC.name: schema.crcs(found)}
