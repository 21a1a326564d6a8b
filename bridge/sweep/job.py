"""One run of a sweep, and what starts and stops runs."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXIT_USAGE, EXIT_STORAGE, EXIT_STOPPED = 2, 74, 75
# Libraries of linear algebra start these many threads each, whatever torch is told.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class Job:
    """One run of a sweep: where its log goes, how it is started, and what became of it.

    `saved` is the folder of the model that it saves; `job_id` is what a cluster calls it.
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

    def end(self, exit_code: int, said: str, asked_to_stop: bool) -> None:
        """Note how the run ended.

        Args:
            exit_code: of its process; minus the signal that ended it.
            said: what it wrote to stderr.
            asked_to_stop: whether it was sent a signal, so that death by one is no failure.
        """
        self.exit_code, self.message = exit_code, ""
        killed = asked_to_stop and exit_code in (-signal.SIGTERM, -signal.SIGKILL)
        if exit_code == 0:
            self.status = "finished"
        elif exit_code == EXIT_STOPPED or killed:
            self.status = "stopped"
        else:
            self.status = "failed"
            lines = said.strip().splitlines()
            last = lines[-1].removeprefix("error: ") if lines else ""
            self.message = last or f"ended with exit code {exit_code}"


class AbstractLauncher(ABC):
    """Starts runs and tells of their end; what still runs is stopped where the block is left.

    Attributes:
        poll_seconds: how often it is worth asking for those that have ended.
    """

    poll_seconds: float

    def __enter__(self) -> AbstractLauncher:
        """Start the block."""
        return self

    @abstractmethod
    def __exit__(self, *exception: object) -> None:
        """Stop what runs."""

    @property
    @abstractmethod
    def running(self) -> int:
        """How many have been started and have not been told to have ended."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Start a run; sets its status."""

    @abstractmethod
    def stop(self, at_once: bool) -> None:
        """Ask all that run to stop in good order, or end them; asking again changes nothing."""

    @abstractmethod
    def ended(self) -> list[Job]:
        """Those that have ended since it was last asked, their end noted."""


def thread_variables(threads: int) -> dict[str, str]:
    """What the environment of a run with so many threads must say."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))
