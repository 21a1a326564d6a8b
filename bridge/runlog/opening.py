"""Create a new log: complete from its first moment, and replacing another only on request."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray
from pydantic import BaseModel

from bridge.config import config_json, config_sha256
from bridge.disk import force, make_folders
from bridge.errors import InputError, StorageError
from bridge.headline import Headline
from bridge.runlog.faults import reason
from bridge.runlog.journal import create_journal, first_segment
from bridge.runlog.layout import GROWING, Meta, create_meta, create_root, create_table
from bridge.runlog.liveness import open_here
from bridge.runlog.output import DISK_FAILS, publish
from bridge.runlog.provenance import provenance
from bridge.runlog.reserve import Reserve
from bridge.runlog.results import headline_of, numbers_in
from bridge.runlog.schema import (
    EVENTS,
    SCHEMA_VERSION,
    STATUS,
    TableSchema,
    schemas_to_json,
    table_schema,
)
from bridge.runlog.seal import remove_leftovers
from bridge.runlog.stream import open_log
from bridge.runlog.weights import as_array, create_weights
from bridge.runlog.writer import RunLog

# Bytes of a dataset without data; a generous estimate, for the excess is given back.
_HEADER_BYTES = 1024


def open_run(
    path: Path | str,
    *,
    tables: Mapping[str, type],
    config: BaseModel | Mapping[str, Any],
    seed: int,
    overwrite: bool = False,
    command: str | Sequence[str] | None = None,
    dataset: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    parent: str | None = None,
    run_id: str | None = None,
    headline: Headline | None = None,
) -> RunLog:
    """Create a log that is complete from its first moment: FILE has all its facts or is not there.

    Args:
        path: the file to create; missing parent folders are created too.
        tables: one record dataclass per table, see `schema.table_schema`.
        config: the resolved config.
        seed: the root seed.
        overwrite: replace an existing file once the new one is complete.
        command: the command line; by default that of this process, see `command_words`.
        dataset: facts about the data, e.g. {"name": ..., "sha256": ...}.
        weights: tensors with the names, shapes and dtypes that `save_weights` will get.
        parent: run id of the run that this one continues or is derived from.
        run_id: of a run that continues without its old log; by default a new one.
        headline: the metric that the run is judged by; viewers, lists and comparisons show it
            first. Without one, viewers open the first table.

    Returns:
        The log; use it in a `with` statement.

    Raises:
        InputError: the file exists and `overwrite` is off, a living process is writing it, or its
            folder is not writable. Nothing is touched then.
        TypeError, ValueError: records or weights that a log cannot hold, or a headline that no
            table has.
    """
    path = Path(path)
    schemas = [*(table_schema(name, record) for name, record in tables.items()), EVENTS, STATUS]
    run_id = run_id or secrets.token_hex(6)
    meta = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "parent": parent or "",
        "start_time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "config": config_json(config),
        "config_sha256": config_sha256(config),
        "seed": int(seed),
        "dataset": config_json(dataset or {}),
        "tables": schemas_to_json(schemas[:-2]),
        "headline": "" if headline is None else headline.model_dump_json(),
        **provenance(),
    }
    if headline is not None and headline_of(meta, numbers_in(schemas)) != headline:
        raise ValueError(f"headline={headline.metric!r}: no table has it, or not {headline.over!r}")
    if command is not None:
        meta["command_line"] = command if isinstance(command, str) else shlex.join(command)
    arrays = None if weights is None else {name: as_array(t) for name, t in weights.items()}
    refuse(path, overwrite)
    with folder_of(path) as temporary:
        refuse(path, overwrite)
        return publish_log(
            path,
            temporary,
            lambda: lay_out(temporary, schemas, meta, arrays),
            lambda file: RunLog(path, file, tables, schemas, run_id),
            run_id,
            overwrite,
        )


def publish_log(
    path: Path,
    temporary: Path,
    make_file: Callable[[], h5py.File],
    make_log: Callable[[h5py.File], RunLog],
    run_id: str,
    overwrite: bool,
) -> RunLog:
    """Write a log under a temporary name and rename it; on failure nothing is left behind.

    Raises:
        InputError: a file of that name was created meanwhile, and `overwrite` is off.
        StorageError: the disk is full or fails.
    """
    file = None
    try:
        file = make_file()
        log = make_log(file)
        publish(temporary, path, overwrite)
    except BaseException as error:
        open_here.discard(run_id)
        with contextlib.suppress(OSError, RuntimeError):
            if file:
                file.close()
        if isinstance(error, OSError | RuntimeError):
            raise StorageError(f"{path}: cannot be written: {reason(error)}") from None
        raise
    force(path.parent)
    return log


def check_new_log(path: Path | str, overwrite: bool = False) -> None:
    """Refuse what `open_run` would refuse, before the expensive part of a command's start.

    Raises:
        InputError: as for `open_run`; nothing is created or changed.
    """
    path = Path(path)
    refuse(path, overwrite)
    folder = next(each for each in path.absolute().parents if each.exists())
    if not folder.is_dir():
        raise _unwritable(path, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def default_path(command: str) -> Path:
    """Give a new log's path under the current folder: runs/COMMAND-YYYYmmdd-HHMMSS-RANDOM.h5."""
    moment = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{command}-{moment}-{secrets.token_hex(3)}.h5"


def lay_out(
    path: Path,
    schemas: Sequence[TableSchema],
    meta: Meta,
    weights: Mapping[str, NDArray[Any]] | None,
    fill: Callable[[h5py.File], None] = lambda file: None,
) -> h5py.File:
    """Create everything that the log will ever hold; nothing can be added while it grows.

    Args:
        path: the file to create.
        schemas: of its tables.
        meta: its facts.
        weights: tensors with the names, shapes and dtypes to be saved.
        fill: writes the initial content of the log.
    """
    file = h5py.File(path, "w", **GROWING)
    try:
        datasets = len(meta) + len(weights or ()) + sum(len(s.columns) for s in schemas)
        facts = sum(len(str(fact)) for fact in meta.values())
        Reserve(file).hold(_HEADER_BYTES * datasets + facts + 2 * first_segment(schemas))
        headline = headline_of(meta, numbers_in(schemas))
        tables = [schema.name for schema in schemas if schema not in (EVENTS, STATUS)]
        create_root(file, tables, headline)
        create_meta(file, meta)
        create_journal(file, schemas)
        for schema in schemas:
            create_table(file, schema, headline=headline)
        if weights is not None:
            create_weights(file, weights)
        fill(file)
        file.swmr_mode = True
    except BaseException:
        file.close()
        raise
    return file


@contextlib.contextmanager
def folder_of(path: Path) -> Iterator[Path]:
    """Create the file's folder and keep other processes from opening logs in it meanwhile.

    Unfinished files of the same name, left by a killed process, are removed. Gives the path of an
    empty file next to the new one; it is removed at the end if it is still there.
    """
    temporary = path.with_name(f"{path.name}.new.{os.getpid()}")
    try:
        make_folders(path.parent)
        lock = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        remove_leftovers(path)
        try:
            temporary.touch()
        except OSError as error:
            raise _unwritable(path, error) from None
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
        os.close(lock)


def _unwritable(path: Path, error: OSError) -> Exception:
    if error.errno in DISK_FAILS:
        return StorageError(f"{path}: cannot be written: {error.strerror}")
    return InputError(
        f"{path}: cannot be written: {error.strerror}; choose a folder that can, with --out"
    )


def refuse(path: Path, overwrite: bool) -> None:
    """Refuse to write a log over something that must not be replaced.

    Raises:
        InputError: it is a folder, a file without `overwrite`, or a log that is being written.
    """
    if path.is_dir():
        raise InputError(f"{path}: a folder; give a file, e.g. --out {path / 'run.h5'}")
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise InputError(f"{path}: exists; choose another --out, or replace it with --overwrite")
    try:
        with open_log(path, whole=False) as log:
            pass
    except InputError:
        return
    log.refuse_alive("stop it first")
