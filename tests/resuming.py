"""Run a command in a separate process, end it at a chosen step, and fingerprint the result."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import cli
from bridge.runlog import Run, opening, read_run
from bridge.session import Session

TIMES = ("images_per_second", "seconds", "computed", "waited")
"""Columns of measured times, which differ between runs."""


def forked(work: Callable[[], int]) -> int:
    """Run a function in a child; give its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
                code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def command(args: Sequence[object], before: Callable[[], None] = lambda: None) -> int:
    """Run the command line in a child, after calling `before` there; give its exit code."""

    def work() -> int:
        before()
        return run_command(args)

    return forked(work)


def run_command(args: Sequence[object]) -> int:
    """Run the command line in this process as a program of its own; give its exit code."""
    sys.argv = ["cli.py", *map(str, args)]
    try:
        cli.main(sys.argv[1:])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def end_at(step: int, number: int, saved: bool) -> Callable[[], None]:
    """Make the child send itself a signal at a step, before or after its checkpoint is written."""

    def patch() -> None:
        original = Session.after_step

        def after_step(self: Session, at: int, snapshot: Callable[[], object]) -> None:
            if at == step and (not saved or number != signal.SIGKILL):
                os.kill(os.getpid(), number)
            original(self, at, snapshot)
            if at == step:
                os.kill(os.getpid(), number)

        Session.after_step = after_step  # type: ignore[method-assign]

    return patch


def end_while_opening(number: int) -> Callable[[], None]:
    """Make the child send itself a signal once its log is written, but not yet renamed."""

    def patch() -> None:
        # A shell's background jobs ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        original = opening.publish

        def publish(temporary: Path, path: Path, overwrite: bool) -> None:
            os.kill(os.getpid(), number)
            original(temporary, path, overwrite)

        opening.publish = publish

    return patch


def fingerprint(run: Run) -> dict[str, str]:
    """Hash every table except its columns of time, the weights, and the saved folder.

    The weights are hashed with their step; the saved folder, next to the log, file by file.
    """
    found = {}
    for name, columns in run.tables.items():
        digest = hashlib.sha256()
        for column, values in columns.items():
            if column not in TIMES:
                digest.update(column.encode() + np.ascontiguousarray(values).tobytes())
        found[name] = f"{len(columns['step'])} rows {digest.hexdigest()}"
    folder = run.path.with_suffix("")
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            name = f"saved {file.relative_to(folder)}"
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    try:
        step, weights = run.weights()
    except ValueError:
        return found
    digest = hashlib.sha256(str(step).encode())
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].tobytes())
    return found | {"weights": digest.hexdigest()}


def same_as(path: Path, reference: dict[str, str], *, foreign: bool = False) -> bool:
    """Whether a log is finished and sealed, and has the fingerprint.

    Its checkpoints must be gone, except those that it cannot recognise as its own (`foreign`).
    """
    run = read_run(path)
    assert (run.status, run.sealed) == ("finished", True)
    assert fingerprint(run) == reference
    assert foreign or not path.with_name(f"{path.name}.checkpoints").exists()
    return True
