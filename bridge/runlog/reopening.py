"""Continue the log of a run that was stopped or killed, from the rows of a checkpoint.

The log is rewritten next to the old one: first the rows up to the checkpoint, then the new ones.
Once complete, the new file takes the old one's name. So one of the two is there at every moment,
and readers of the old one are not disturbed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
from pydantic import BaseModel

from bridge.config import config_json, config_sha256, decisive_json, load_config
from bridge.errors import InputError
from bridge.runlog import guard
from bridge.runlog.layout import CRC, Meta, stored_dtype
from bridge.runlog.opening import folder_of, lay_out, publish_log
from bridge.runlog.provenance import provenance
from bridge.runlog.reserve import Reserve
from bridge.runlog.schema import EVENTS, STATUS, schemas_to_json, table_schema
from bridge.runlog.stream import LogFile, open_log
from bridge.runlog.weights import as_array, weights_in, write_weights
from bridge.runlog.writer import RunLog

# Facts about which process writes the log, and what started it.
_PROCESS = ("host", "pid", "process", "launch")
# Other facts that may differ without the user's doing, and are noted.
_MACHINE = ("cpu", "gpu", "packages", "git_commit", "git_dirty")


def reopen_run(
    path: Path | str,
    *,
    tables: Mapping[str, type],
    config: BaseModel | Mapping[str, Any],
    rows: Mapping[str, int],
    step: int,
    dataset: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    was: BaseModel | Mapping[str, Any] | None = None,
    events: Sequence[Mapping[str, Any]] = (),
) -> RunLog:
    """Open the log of a run that has ended or died, to continue after its first rows.

    Facts, events and statuses stay. Rows past `rows` and weights of a later step are dropped. An
    event "resumed" is added.

    Args:
        path: the log, sealed or not.
        tables: those that it was opened with.
        config: the one that it was opened with.
        rows: how many rows of each table to keep.
        step: the number of steps that these rows cover.
        dataset: the one that it was opened with.
        weights: those that it was opened with.
        was: the config that it was opened with, if the run has another one from now on.
        events: events to record once it has its name.

    Raises:
        InputError: it is not a log, it is still being written, it has other tables, another config
            or another data set, or fewer rows than are to stay. Nothing is touched then.
        StorageError: the disk is full or fails; the old log stays.
    """
    path = Path(path)
    schemas = [*(table_schema(name, record) for name, record in tables.items()), EVENTS, STATUS]
    arrays = None if weights is None else {name: as_array(t) for name, t in weights.items()}
    with folder_of(path) as temporary, open_log(path) as old:
        old.refuse_alive("stop it first")
        _require_same(
            path, old.meta, schemas_to_json(schemas[:-2]), config if was is None else was, dataset
        )
        counts = _counts(old, rows)
        saved = weights_in(path, step) if arrays is not None else None
        now = provenance()
        meta = _facts(old.meta, now, None if was is None else config)
        event_count = int(old.own[EVENTS.name]["event"].max(initial=-1)) + 1
        numbers = {**counts, "event": event_count}
        given = (tables, schemas, meta["run_id"], numbers, _last_steps(old, tables, counts))

        def fill(file: h5py.File) -> None:
            _fill(file, old, counts)
            if saved is not None:
                write_weights(file, *saved)

        def make(file: h5py.File) -> RunLog:
            log = RunLog(path, file, *given, saved=int(saved is not None))
            for each in events:
                log.event(**each)
            return log

        lay = partial(lay_out, temporary, schemas, meta, arrays, fill)
        log = publish_log(path, temporary, lay, make, meta["run_id"], overwrite=True)
    differs = {n: {"was": meta[n], "is": now[n]} for n in _MACHINE if meta[n] != now[n]}
    log.event("resumed", step=step, pid=os.getpid(), argv=sys.argv, at=time.time(), other=differs)
    return log


def _facts(
    was: Meta, now: Mapping[str, Any], config: BaseModel | Mapping[str, Any] | None
) -> dict[str, Any]:
    """Give the facts of the continued log; those of its config change if one is given."""
    facts = {**was, **{name: now[name] for name in _PROCESS}}
    if config is not None:
        facts |= {"config": config_json(config), "config_sha256": config_sha256(config)}
    return facts


def _last_steps(old: LogFile, tables: Iterable[str], counts: Mapping[str, int]) -> dict[str, int]:
    """Give the step of the last row to keep, by table."""
    return {n: int(old.slice(n, counts[n] - 1, counts[n])["step"][0]) for n in tables if counts[n]}


def machine_differences(meta: Meta) -> list[str]:
    """List the changes of the machine that may affect the last bits of a run's results."""
    now = provenance()
    return [name for name in ("cpu", "gpu", "packages") if meta[name] != now[name]]


def _require_same(
    path: Path,
    meta: Meta,
    tables: str,
    config: BaseModel | Mapping[str, Any],
    dataset: Mapping[str, Any] | None,
) -> None:
    if meta["tables"] != tables:
        raise InputError(
            f"{path}: has other tables than this run; go on with the command and the version "
            "that wrote it"
        )
    if not _same_config(str(meta["config"]), config):
        raise InputError(f"{path}: has another config than this run")
    if meta["dataset"] != config_json(dataset or {}):
        raise InputError(f"{path}: was written with other data: {meta['dataset']}")


def _same_config(was: str, config: BaseModel | Mapping[str, Any]) -> bool:
    """Whether a log's config equals this one, even if another version's keys differ.

    Settings that no number depends on may differ.
    """
    now = config_json(config)
    if was == now or not isinstance(config, BaseModel):
        return was == now
    try:
        before = load_config(type(config), base=json.loads(was))
        return decisive_json(before) == decisive_json(config)
    except InputError:
        return False


def _counts(old: LogFile, rows: Mapping[str, int]) -> dict[str, int]:
    """Count the rows to keep, by table."""
    counts = {name: rows.get(name, 0) for name in old.schemas}
    for name, n in counts.items():
        if n > old.rows(name):
            raise InputError(f"{old.path}: has {old.rows(name)} good rows of {name}, not {n}")
    return counts | {name: len(columns[CRC.name]) for name, columns in old.own.items()}


def _fill(file: h5py.File, old: LogFile, counts: Mapping[str, int]) -> None:
    """Write the first rows, before the file is shared with readers."""
    schemas = {**old.schemas, EVENTS.name: EVENTS, STATUS.name: STATUS}
    sizes = {
        name: sum(stored_dtype(c).itemsize for c in (*s.columns, CRC))
        for name, s in schemas.items()
    }
    nbytes = sum(counts[name] * size for name, size in sizes.items())
    Reserve(file).hold(nbytes + nbytes // 2 + (1 << 20))
    for name, n in counts.items():
        group = guard.group(file, name)
        columns = {c.name: guard.dataset(group, c.name) for c in (*schemas[name].columns, CRC)}
        for each in columns.values():
            each.resize((n,))
        for start, stored in old.stored(name, n):
            for column, values in stored.items():
                columns[column][start : start + len(values)] = values
