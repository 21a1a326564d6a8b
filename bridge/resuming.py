"""Find where a run continues: from its log and checkpoints, or from its checkpoints alone."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bridge.checkpoint import Checkpoint, checkpoints, load_checkpoint, whose
from bridge.disk import force
from bridge.errors import InputError
from bridge.runlog import Run, read_run
from bridge.runlog.guard import Damaged
from bridge.runlog.provenance import provenance
from bridge.usercode import remember

WITHOUT_LOG = "resumed without log"
"""Kind of the event in the new log of a run that lost its old one; `step` is where it goes on."""

_SETTINGS = {
    "threads": "--threads",
    "deterministic": "--deterministic",
    "tf32": "torch.set_float32_matmul_precision",
}


def checkpoint_folder(path: Path) -> Path:
    """Give the folder of a log's checkpoints, which lies next to it."""
    return path.with_name(f"{path.name}.checkpoints")


def find_start(
    run: Run, here: Mapping[str, Any] | None = None, warn: Callable[[str], None] = lambda text: None
) -> Checkpoint | None:
    """Find the newest valid checkpoint of a run whose rows are all in its log.

    Args:
        run: the run, as read from its log.
        here: where the run is to continue: device, processes; missing entries are not checked.
        warn: receives a message for each checkpoint that cannot be used.

    Returns:
        The checkpoint; None to start from the first step.

    Raises:
        InputError: the newest valid checkpoint was made in another place.
    """
    begun = max((e.get("step", 0) for e in run.events if e["kind"] == WITHOUT_LOG), default=0)
    for found in _good(run.path, warn):
        rows, of = found.facts["rows"], found.facts["run_id"]
        if of != run.meta["run_id"] or found.step < begun:
            continue
        if found.step == begun > 0:  # its rows were in a log that is lost
            found = dataclasses.replace(found, facts={**found.facts, "rows": {}})
        elif any(len(run.tables.get(name, {}).get("step", ())) < n for name, n in rows.items()):
            warn(f"{found.path}: the log has fewer rows than this checkpoint; an older one is used")
            continue
        require_same_place(found, here or {})
        return found
    return None


def find_without_log(path: Path) -> Checkpoint | None:
    """Find the newest valid checkpoint of a run whose log is missing.

    Returns:
        The checkpoint, whose facts include the `run`; None if there is no checkpoint at all.

    Raises:
        InputError: there are checkpoints, but none is usable, or they belong to several runs.
    """
    folder, problems = checkpoint_folder(path), []
    if not left_behind(path):
        return None
    found = list(_good(path, problems.append))
    runs = {each.facts["run_id"] for each in found}
    if len(runs) == 1 and isinstance(found[0].facts.get("run"), dict):
        return found[0]
    why = problems[0] if problems else "they do not say what run they are of"
    if len(runs) > 1:
        why = f"they are of {len(runs)} runs"
    raise InputError(
        f"{path}: there is no such log, and its checkpoints in {folder} cannot be gone on with "
        f"({why}); move them away to start anew"
    )


def readable_log(path: Path, warn: Callable[[str], None] = lambda text: None) -> Run | None:
    """Read the log to continue; move a damaged one aside if a valid checkpoint can replace it.

    Args:
        path: the log.
        warn: receives a message that says what was moved, and where to.

    Returns:
        The run; None if there is no log, or if it was moved aside.

    Raises:
        InputError: it is no log, or it is damaged and no checkpoint can replace it.
    """
    if not path.exists():
        return None
    try:
        run = read_run(path)
        if not run.dropped or not _has_lost(run):
            return run
        why = f"{path}: damaged log: rows lost of {', '.join(run.dropped)}"
    except Damaged as error:
        why = str(error)
        try:
            found = find_without_log(path)
        except InputError:
            found = None
        if found is None:
            raise
    aside = _aside(path)
    os.rename(path, aside)
    force(path.parent)
    warn(f"{why}; kept as {aside.name}, a new log goes on from the newest checkpoint")
    return None


def logged(
    path: Path, warn: Callable[[str], None]
) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Read the config and the facts of the run to continue at `path`; None if there is none.

    They come from its log or, if that is lost, from its checkpoints.

    Args:
        path: the log.
        warn: see `readable_log`.

    Raises:
        InputError: the log or the checkpoints cannot be read.
    """
    run = readable_log(path, warn)
    if run is not None:
        remember(run.events)
        return run.config, run.meta
    start = find_without_log(path)
    return None if start is None else (start.facts["run"]["config"], start.facts["run"])


def _has_lost(run: Run) -> bool:
    """Tell whether a usable checkpoint counts rows that the log has lost."""
    with contextlib.suppress(InputError):
        found = find_without_log(run.path)
        if found is not None and found.facts["run_id"] == run.meta["run_id"]:
            rows = found.facts["rows"].items()
            return any(len(run.tables.get(name, {}).get("step", ())) < n for name, n in rows)
    return False


def _aside(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}.damaged-{i}{path.suffix}") for i in itertools.count(1))
    return next(each for each in names if not os.path.lexists(each))


def left_behind(path: Path) -> list[Path]:
    """List the checkpoints of other runs in the place for those of a new log at `path`."""
    found = []
    for each in checkpoints(checkpoint_folder(path)):
        with contextlib.suppress(InputError):
            whose(each)
            found.append(each)
    return found


def require_free(path: Path, overwrite: bool) -> None:
    """Refuse to start a log where another run's checkpoints lie.

    Raises:
        InputError: there are such checkpoints, and `overwrite` is off.
    """
    found = [] if overwrite else left_behind(path)
    if found:
        raise InputError(
            f"{found[0].parent}: has a checkpoint of another run ({found[0].name}), whose log "
            f"{path.name} is not there; go on with --resume, or give another log, or --overwrite"
        )


def require_same_place(start: Checkpoint, here: Mapping[str, Any]) -> None:
    """Refuse to continue where the results would differ.

    Raises:
        InputError: the checkpoint was made on another device, or with another number of processes.
    """
    for name, value in here.items():
        made = start.facts.get(name)
        if made != value:
            option = f"with --device {made}" if name == "device" else "in as many"
            raise InputError(
                f"{start.path}: made on {name}={made}, but this is {value}; the numbers would "
                f"be others, go on {option}"
            )


def _good(path: Path, warn: Callable[[str], None]) -> Iterator[Checkpoint]:
    """Give a log's checkpoints that can be read, newest first."""
    for each in checkpoints(checkpoint_folder(path)):
        try:
            found = load_checkpoint(each)
            rows = {str(name): int(n) for name, n in found.facts["rows"].items()}
            if any(n < 0 for n in rows.values()):
                raise InputError(f"{each}: damaged checkpoint: rows={rows}")
            facts = {**found.facts, "rows": rows, "run_id": found.facts["run_id"]}
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            warn(f"{error}; an older one is used")
            continue
        yield dataclasses.replace(found, facts=facts)


def settings_here() -> dict[str, Any]:
    """Give the settings of this process that affect the last bits of a run's results."""
    now = provenance()
    return {name: now[name] for name in _SETTINGS}


def require_resumable(run: Run) -> None:
    """Refuse to continue a run that has finished, or that had other settings.

    Raises:
        InputError: the run has finished, or its settings differ.
    """
    if run.status == "finished":
        raise InputError(f"{run.path}: finished; nothing to resume, replace it with --overwrite")
    require_settings(run.path, run.meta)


def require_settings(path: Path, was: Mapping[str, Any]) -> None:
    """Refuse settings that differ from those of a run.

    Raises:
        InputError: they differ.
    """
    now = settings_here()
    for name, option in _SETTINGS.items():
        if now[name] != was.get(name):
            raise InputError(
                f"{path}: written with {name}={was.get(name)}, not {now[name]}; the numbers "
                f"would be others, set it as it was ({option})"
            )
