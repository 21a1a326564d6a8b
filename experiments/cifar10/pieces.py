"""Run jobs in pieces: each runs as long as the time allows, and continues the next time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bridge.errors import InputError
from bridge.runlog import read_run
from experiments.jobs import CLI, FAILED

STOPPED = 75
"""The exit status of a run that has stopped cleanly and can be resumed."""
LAST = 20.0
"""Seconds for a run to write its checkpoint after it was asked to stop."""


def ended(path: Path) -> str | None:
    """Give how a run has ended: "finished" or "failed"; None if it has not."""
    try:
        status = read_run(path).status
    except InputError:
        return None
    return status if status in ("finished", "failed") else None


def run_piece(
    jobs: Mapping[str, Sequence[str]],
    folder: Path,
    seconds: float,
    note: Callable[[str], None],
    processes: int = 1,
) -> bool:
    """Run jobs in their order until all have ended or the time is up.

    Args:
        jobs: arguments of `eqprop-run` by name; the log is FOLDER/NAME.h5.
        folder: created if it does not exist.
        seconds: the time after which running jobs are asked to stop; they are resumed next time.
        note: receives a line for each run that ends or stops.
        processes: number of jobs that run at a time.

    Returns:
        Whether all have ended.

    Raises:
        RuntimeError: a run ended in another way; the message is that of the run. Those that run
            beside it end first; no other is started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + seconds
    stopped = threading.Event()

    def run(name: str) -> bool:
        out = folder / f"{name}.h5"
        if ended(out):
            return True
        left = until - time.monotonic() - LAST
        if left <= 0 or stopped.is_set():
            return False
        code, stderr = _run([*jobs[name], "--out", str(out), "--resume", "--quiet"], left)
        if code == STOPPED:
            stopped.set()
            note(f"{name}: stopped, to go on later")
            return False
        if code not in (0, FAILED):
            stopped.set()
            raise RuntimeError(f"{name}: exit {code}: {stderr.strip()}")
        note(f"{name}: {ended(out)}")
        return True

    with ThreadPoolExecutor(processes) as pool:
        return all(list(pool.map(run, jobs)))


def _run(arguments: Sequence[str], seconds: float) -> tuple[int, str]:
    command = [sys.executable, str(CLI), "eqprop-run", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            stderr = process.communicate(timeout=seconds)[1]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            stderr = process.communicate()[1]
        return process.returncode, stderr
