"""Runs as processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from typing import IO

from bridge.sweep.job import AbstractLauncher, Job, thread_variables


class Processes(AbstractLauncher):
    """Starts each run as a child process."""

    poll_seconds = 0.05

    def __init__(self, threads: int) -> None:
        """Set the number of threads of each process."""
        self._running: dict[subprocess.Popen[bytes], tuple[Job, IO[bytes]]] = {}
        self._sent: set[int] = set()
        self._environment = {**os.environ, **thread_variables(threads)}

    def __exit__(self, *exception: object) -> None:
        """Stop active processes, and wait for them."""
        self.stop(at_once=False)
        for process, (_, stderr) in self._running.items():
            process.wait()
            stderr.close()

    @property
    def running(self) -> int:
        """Number of active processes."""
        return len(self._running)

    def start(self, job: Job) -> None:
        """Start a process."""
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the process has ended)
        # In its own session, so that a terminal's Ctrl-C reaches it only through this process.
        process = subprocess.Popen(
            list(job.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=self._environment,
            start_new_session=True,
        )
        job.status = "running"
        self._running[process] = (job, stderr)

    def stop(self, at_once: bool) -> None:
        """Send SIGTERM, or SIGKILL."""
        number = signal.SIGKILL if at_once else signal.SIGTERM
        if number not in self._sent:
            self._sent.add(number)
            for process in self._running:
                process.send_signal(number)

    def ended(self) -> list[Job]:
        """Give the runs whose process has ended."""
        found = []
        for process in [each for each in self._running if each.poll() is not None]:
            job, stderr = self._running.pop(process)
            with stderr:
                stderr.seek(0)
                text = stderr.read().decode("utf-8", "replace")
            job.end(process.returncode, text, bool(self._sent))
            found.append(job)
        return found
