"""One run of a sweep, and the interface of what starts and stops runs."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXIT_USAGE, EXIT_STORAGE, EXIT_STOPPED = 2, 74, 75
# Linear-algebra libraries start so many threads each, whatever torch is set to.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class Job:
    """One run of a sweep: where its log goes, how it is started, and how it ended.

    `saved` is the folder of the model that it saves; `job_id` is its id on a cluster.
    """

    log: Path
    point: Mapping[str, Any]
    command: Sequence[str]
    saved: Path | None = None
    status: str = "waiting"
    exit_code: int | None = None
    job_id: str | None = None
    message: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)

    def end(self, exit_code: int, stderr: str, asked_to_stop: bool) -> None:
        """Record how the run ended.

        Args:
            exit_code: of its process; if a signal ended it, minus the signal's number.
            stderr: its output on stderr.
            asked_to_stop: whether it was sent a signal, so that death by a signal is no failure.
        """
        self.exit_code, self.message = exit_code, ""
        killed = asked_to_stop and exit_code in (-signal.SIGTERM, -signal.SIGKILL)
        if exit_code == 0:
            self.status = "finished"
        elif exit_code == EXIT_STOPPED or killed:
            self.status = "stopped"
        else:
            self.status = "failed"
            lines = stderr.strip().splitlines()
            last = lines[-1].removeprefix("error: ") if lines else ""
            self.message = last or f"ended with exit code {exit_code}"


class AbstractLauncher(ABC):
    """Starts runs and reports their end; runs that are still active at the end of the block stop.

    Attributes:
        poll_seconds: how often to ask for runs that have ended.
    """

    poll_seconds: float

    def __enter__(self) -> AbstractLauncher:
        """Enter the block."""
        return self

    @abstractmethod
    def __exit__(self, *exception: object) -> None:
        """Stop active runs."""

    @property
    @abstractmethod
    def running(self) -> int:
        """Number of runs that have started and are not yet reported as ended."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Start a run and set its status."""

    @abstractmethod
    def stop(self, at_once: bool) -> None:
        """Ask all active runs to stop cleanly, or end them at once; repeating it has no effect."""

    @abstractmethod
    def ended(self) -> list[Job]:
        """Give the runs that have ended since the last call, with their end recorded."""


def thread_variables(threads: int) -> dict[str, str]:
    """Give the environment variables for a run with so many threads."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))
