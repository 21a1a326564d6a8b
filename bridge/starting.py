"""Open a run's log, new or to continue it, and find where the run starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bridge.checkpoint import Checkpoint, remove_checkpoint
from bridge.errors import InputError
from bridge.extending import Plan, bring_back
from bridge.resuming import (
    WITHOUT_LOG,
    find_start,
    find_without_log,
    left_behind,
    readable_log,
    require_free,
    require_resumable,
    require_same_place,
    require_settings,
)
from bridge.runlog import Run, RunLog, open_run
from bridge.runlog.reopening import machine_differences, reopen_run


def start_log(
    path: Path,
    resume: bool,
    of_run: Mapping[str, Any],
    new: Mapping[str, Any],
    facts: Mapping[str, Any],
    warn: Callable[[str], None],
    plan: Plan | None,
) -> tuple[RunLog, Checkpoint | None]:
    """Open a log, new or to continue it, and find where the run starts.

    Args:
        path: the log.
        resume: continue the log, or continue from its checkpoints if the log is lost.
        of_run: the arguments that `open_run` and `reopen_run` share.
        new: the other arguments of `open_run`.
        facts: where the loop computes.
        warn: receives one line about what may change the last bits of a resumed run's results.
        plan: the planned length of the run.

    Raises:
        InputError: see `bridge.session.training_session`.
        StorageError: the disk is full or fails.
    """
    longer = plan if plan is not None and plan.was is not None else None
    run = readable_log(path, warn) if resume else None
    if run is not None:
        return _go_on(run, of_run, facts, warn, longer)
    start = find_without_log(path) if resume else None
    if start is not None:
        require_settings(start.path, start.facts["run"])
        require_same_place(start, facts)
        events = [] if longer is None else [longer.extension(path, start.step)]
        warn(
            f"{path}: there is no such log; going on from {start.path.name} of its run, the rows "
            "before are lost"
        )
        log = open_run(path, **of_run, **new, run_id=start.facts["run_id"])
        for each in [{"kind": WITHOUT_LOG, "step": start.step}, *events]:
            log.event(**each)
        return log, start
    require_free(path, new["overwrite"])
    log = open_run(path, **of_run, **new)
    # --overwrite has replaced the log that these belong to.
    for each in left_behind(path):
        remove_checkpoint(each)
    return log, None


def _go_on(
    run: Run,
    of_run: Mapping[str, Any],
    facts: Mapping[str, Any],
    warn: Callable[[str], None],
    longer: Plan | None,
) -> tuple[RunLog, Checkpoint | None]:
    """Open a readable log at its newest valid checkpoint."""
    finished = longer is not None and run.status == "finished"
    if longer is not None and finished:
        require_settings(run.path, run.meta)
        bring_back(run, longer)
    else:
        require_resumable(run)
    start = find_start(run, facts, warn)
    for name in machine_differences(run.meta):
        warn(f"{run.path}: {name} differ from what wrote it; the last bits of the numbers may, too")
    step = 0 if start is None else start.step
    rows = {} if start is None else start.facts["rows"]
    if finished and start is None:
        raise InputError(f"{run.path}: finished, and its last state is damaged; start another log")
    if longer is None:
        return reopen_run(run.path, **of_run, rows=rows, step=step), start
    events, rows = [longer.extension(run.path, step)], longer.kept_rows(run, start)
    log = reopen_run(run.path, **of_run, rows=rows, step=step, was=longer.was, events=events)
    return log, start
