"""Wrap the command of a cluster job: run it, forward signals, and record how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

_STDERR_BYTES = 10_000


def attend(command: Sequence[str], environment: Mapping[str, str], report: str) -> None:
    """Run a command to its end.

    SIGTERM, and SIGUSR2 (submitit's warning of a near time limit), are forwarded to the command as
    one SIGTERM, after which it may write its checkpoint. Slurm sends its own signals to all
    processes of a job: the command does not see SIGUSR2, and must tolerate a second SIGTERM.

    Args:
        command: program and arguments.
        environment: variables set in addition to those of the job.
        report: a JSON file to write: exit_code, said (the end of stderr), signalled.
    """
    signalled: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: object) -> None:
        if not signalled and process is not None:
            process.send_signal(signal.SIGTERM)
        signalled.append(number)

    signal.signal(signal.SIGTERM, pass_on)
    # Ignored signals are inherited, handlers are not.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, **environment},
        )
        signal.signal(signal.SIGUSR2, pass_on)
        if signalled:
            process.send_signal(signal.SIGTERM)
        process.wait()
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _STDERR_BYTES))
        text = stderr.read().decode("utf-8", "replace")
    # the job's own output may have no space left, or no reader
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text)
    with open(f"{report}.new", "w", encoding="utf-8") as file:
        found = {"exit_code": process.returncode, "said": text, "signalled": bool(signalled)}
        json.dump(found, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{report}.new", report)
