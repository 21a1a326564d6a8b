"""Rebuild the index of a sweep's folder from its logs alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.config import flatten
from bridge.errors import InputError
from bridge.runlog import Run, read_run
from bridge.runlog.digest import command_of, note_of
from bridge.sweep.index import read_index, write_index
from bridge.sweep.job import EXIT_STOPPED, Job
from bridge.sweep.lock import locked

_EXITS = {"finished": 0, "stopped": EXIT_STOPPED, "failed": 1}
_OF_A_PROCESS = re.compile(r".*\.rank\d+\.h5")


def rebuild_index(folder: Path) -> list[Job]:
    """Write index.json and index.csv for the logs in a folder.

    A log's point comes from an existing index; else from its name; else from the keys in which its
    config differs from the others. An unreadable log is listed with the reason.

    Returns:
        One job of a sweep for each log.

    Raises:
        InputError: there is no such folder, none of its files is a log, a sweep is running there,
            or an existing index is not of a sweep.
        StorageError: the disk is full or fails.
    """
    paths = sorted(path for path in folder.glob("*.h5") if path.is_file())
    paths = [path for path in paths if not _OF_A_PROCESS.fullmatch(path.name)]
    if not paths:
        raise InputError(f"{folder}: has no logs (*.h5); give the folder of a sweep")
    with locked(folder):
        earlier = read_index(folder)
        found: dict[Path, Run | InputError] = {}
        for path in paths:
            try:
                found[path] = read_run(path)
            except InputError as error:
                found[path] = error
        configs = {p: flatten(r.config) for p, r in found.items() if isinstance(r, Run)}
        jobs = [_job(path, each, earlier, configs) for path, each in found.items()]
        names = [
            command_of(str(run.meta["command_line"]))
            for run in found.values()
            if isinstance(run, Run)
        ]
        write_index(folder, max(names, key=names.count, default=""), jobs, {})
    return jobs


def _job(
    path: Path,
    found: Run | InputError,
    earlier: Mapping[str, Mapping[str, Any]],
    configs: Mapping[Path, Mapping[str, Any]],
) -> Job:
    before = earlier.get(path.name, {})
    saved = path.with_suffix("") if path.with_suffix("").is_dir() else None
    if isinstance(found, InputError):
        point = dict(before.get("point", {}))
        return Job(path, point, [], saved, status="unreadable", message=str(found))
    events = found.events
    summaries = [event["of"] for event in events if event["kind"] == "summary"]
    return Job(
        log=path,
        point=before.get("point") or _point(path, configs),
        command=before.get("command") or [str(found.meta["command_line"])],
        saved=saved,
        status=found.state,
        exit_code=None if found.alive else _EXITS.get(found.status),
        message=note_of(events) if found.status == "failed" else "",
        summary=summaries[-1] if summaries and found.status == "finished" else {},
    )


def _point(path: Path, configs: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    own = configs[path]
    keys = [part.partition("=")[0] for part in path.stem.split(",")]
    if not all(key in own for key in keys):
        keys = [
            key
            for key in dict.fromkeys(key for each in configs.values() for key in each)
            if any(each.get(key) != own.get(key) for each in configs.values())
        ]
    return {key: own.get(key) for key in keys}
