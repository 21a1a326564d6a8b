"""Run several command lines in parallel; finished runs are not repeated."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from pathlib import Path
from typing import Any

import click

from bridge.console import resolve_device
from bridge.errors import InputError
from bridge.progress import Progress, progress
from bridge.runlog import Run, read_run

CLI = Path(__file__).parent.parent / "cli.py"
FAILED = 1
"""The exit status of a run that had to end, e.g. because a network diverged: a result too."""


def run_all(
    jobs: Mapping[str, Sequence[str]],
    folder: Path,
    processes: int = 1,
    command: str = "eqprop-run",
    device: str | None = None,
) -> dict[str, Run]:
    """Run `cli.py eqprop-run` with each job's arguments, and read the logs.

    Args:
        jobs: arguments by name; the log is FOLDER/NAME.h5.
        folder: created if it does not exist.
        processes: number of simultaneous runs, each with one thread.
        command: another command of the command line.
        device: the device of all runs; None leaves it to the command.

    Raises:
        RuntimeError: a run ended neither successfully nor with a diverged network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    click.echo(f"logs: {folder}", err=True)

    def run(name: str) -> Run:
        out = folder / f"{name}.h5"
        if not has_ended(out):
            words = [sys.executable, str(CLI), command, *jobs[name], "--quiet"]
            words += [] if device is None else ["--device", device]
            done = subprocess.run(
                [*words, "--out", str(out), "--overwrite"], capture_output=True, text=True
            )
            if done.returncode not in (0, FAILED):
                raise RuntimeError(f"{name}: exit {done.returncode}: {done.stderr.strip()}")
        bar.advance(1)
        return read_run(out)

    with progress(len(jobs), "runs", quiet=False) as bar, ThreadPoolExecutor(processes) as pool:
        return dict(zip(jobs, pool.map(run, jobs), strict=True))


def workers(processes: int) -> Executor:
    """A pool of processes with one thread each; a single one stays in this process."""
    if processes == 1:
        return ThreadPoolExecutor(1)
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, spawn, _begin_worker)


def _begin_worker() -> None:
    """Take one thread, and end when the experiment does, even if it is killed."""
    import torch

    torch.set_num_threads(1)
    experiment = multiprocessing.parent_process()
    assert experiment is not None

    def follow() -> None:
        experiment.join()
        os._exit(FAILED)

    threading.Thread(target=follow, daemon=True).start()


def await_all(futures: Iterable[Future[Any]], bar: Progress) -> None:
    """Wait for all, and advance the bar; the first error cancels what has not begun."""
    waiting = list(futures)
    try:
        for future in as_completed(waiting):
            future.result()
            bar.advance()
    except BaseException:
        for future in waiting:
            future.cancel()
        raise


def has_ended(path: Path) -> bool:
    """Whether a log is of a run that need not be repeated."""
    try:
        return read_run(path).status in ("finished", "failed")
    except InputError:
        return False


def device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give an experiment `--device`, with the same one-line error as the commands."""
    return click.option(
        "--device",
        default="auto",
        callback=_there,
        help="auto, cpu or cuda; auto takes a GPU if there is one.",
    )(command)


def _there(context: click.Context, option: click.Parameter, name: str) -> str:
    try:
        return resolve_device(name)
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        context.exit(2)


def settings(**values: object) -> list[str]:
    """Make `--set` arguments; a double underscore stands for a dot."""
    return [
        part
        for key, value in values.items()
        for part in ("--set", f"{key.replace('__', '.')}={value}")
    ]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the docs."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
