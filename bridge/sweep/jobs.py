"""Run the points of a sweep, some at a time, and keep the index up to date."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.errors import InputError, RunFailed, Stopped, StorageError
from bridge.runlog import read_run
from bridge.signals import noted
from bridge.sweep.index import INDEX, read_index, write_index
from bridge.sweep.job import EXIT_STORAGE, EXIT_USAGE, AbstractLauncher, Job
from bridge.sweep.lock import locked


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    command: str,
    launcher: AbstractLauncher,
    *,
    parallel: int,
    on_end: Callable[[Job], None] = lambda job: None,
) -> None:
    """Run what is not finished, some at a time; keep the index up to date.

    Args:
        jobs: those with status "finished" are skipped.
        folder: the folder of the logs and the index.
        command: its name, for the index.
        launcher: starts them.
        parallel: number of simultaneous runs.
        on_end: called when a run has ended.

    Raises:
        Stopped: after a signal of `bridge.signals.STOPPING`, once every run has ended; or a run was
            stopped.
        RunFailed: some runs failed; all others have ended.
        InputError: some runs failed, each because of a user's value; or the index is not of a
            sweep, or another sweep runs in the folder.
        StorageError: the disk refused a log or the index; active runs were stopped.
    """
    with locked(folder) as lock:
        earlier = read_index(folder)
        for job in jobs:
            if job.status == "finished":
                job.summary = _summary(job.log)
        write_index(folder, command, jobs, earlier)
        waiting = [job for job in jobs if job.status != "finished"]
        with noted() as received, launcher:
            while waiting or launcher.running:
                full = any(job.exit_code == EXIT_STORAGE for job in jobs)
                if received or full:
                    waiting.clear()
                    launcher.stop(at_once=signal.SIGINT in received[1:])
                while waiting and launcher.running < parallel and not received:
                    launcher.start(waiting.pop(0))
                for job in launcher.ended():
                    job.summary = _summary(job.log) if job.status == "finished" else {}
                    on_end(job)
                    write_index(folder, command, jobs, earlier)
                lock.beat()
                time.sleep(launcher.poll_seconds)
    _conclude(jobs, folder, bool(received))


def _conclude(jobs: Sequence[Job], folder: Path, signalled: bool) -> None:
    failed = [job for job in jobs if job.status == "failed"]
    done = sum(job.status == "finished" for job in jobs)
    if failed:
        others = f" ({len(failed)} of {len(jobs)} runs failed; see {folder / INDEX}.json)"
        text = f"{failed[0].log.name}: {failed[0].message}{others if len(jobs) > 1 else ''}"
        codes = {job.exit_code for job in failed}
        if EXIT_STORAGE in codes:
            raise StorageError(text)
        if not signalled:
            raise InputError(text) if codes == {EXIT_USAGE} else RunFailed(text)
    if done < len(jobs):
        raise Stopped(
            f"stopped: {done} of {len(jobs)} runs are finished; go on with --resume --out {folder}"
        )


def _summary(log: Path) -> Mapping[str, Any]:
    found = [event["of"] for event in read_run(log).events if event["kind"] == "summary"]
    return found[-1] if found else {}
