"""Run several command lines in parallel; finished runs are not repeated."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
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
from typing import IO, Any

import click

from bridge.console import resolve_device
from bridge.disk import replace_file
from bridge.errors import InputError, RunFailed, Stopped, StorageError
from bridge.invocation import without_program
from bridge.progress import Progress, progress
from bridge.runlog import Run, read_run
from bridge.sweep import Job, Processes, run_jobs
from bridge.sweep.job import EXIT_STOPPED, EXIT_STORAGE

CLI = Path(__file__).parent.parent / "cli.py"
FAILED = 1
"""The exit status of a run that had to end, e.g. because a network diverged: a result too."""


class Refusal(click.ClickException):
    """An experiment cannot go on: one line, and the exit code of the commands."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        """Take the line, and another exit code if the user's values are not the cause."""
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message as the commands print theirs."""
        mark = "" if self.exit_code == EXIT_STOPPED else "error: "
        click.echo(mark + self.message, file, err=file is None)


def run_all(
    jobs: Mapping[str, Sequence[str]],
    folder: Path,
    processes: int = 1,
    command: str = "eqprop-run",
    device: str | None = None,
) -> dict[str, Run]:
    """Run `cli.py eqprop-run` with each job's arguments, and read the logs.

    A signal stops active runs, each of which writes its checkpoint; the next call continues them.

    Args:
        jobs: arguments by name; the log is FOLDER/NAME.h5.
        folder: created if it does not exist.
        processes: number of simultaneous runs, each with one thread.
        command: another command of the command line.
        device: the device of all runs; None leaves it to the command.

    Raises:
        Refusal: a log is there, of a run with other arguments; a run ended neither successfully nor
            with a diverged network; or a signal came.
    """
    folder.mkdir(parents=True, exist_ok=True)
    click.echo(f"logs: {folder}", err=True)
    chosen = [] if device is None else ["--device", device]
    waiting = []
    for name, arguments in jobs.items():
        log, words = folder / f"{name}.h5", [command, *arguments, "--quiet"]
        _refuse_others(log, words)
        if not has_ended(log):
            whole = [sys.executable, str(CLI), *words, *chosen, "--out", str(log), "--resume"]
            waiting.append(Job(log, {"run": name}, whole))
    with progress(len(waiting), "runs", quiet=False) as bar:
        _run(waiting, folder, command, processes, bar)
    return {name: read_run(folder / f"{name}.h5") for name in jobs}


def _run(jobs: Sequence[Job], folder: Path, command: str, processes: int, bar: Progress) -> None:
    def ended(_: Job) -> None:
        bar.advance(1)

    try:
        run_jobs(jobs, folder, command, Processes(1), parallel=processes, on_end=ended)
    except Stopped:
        left = sum(not has_ended(job.log) for job in jobs)
        raise Refusal(f"stopped, {left} runs are left; repeat the command", EXIT_STOPPED) from None
    except StorageError as error:
        raise Refusal(str(error), EXIT_STORAGE) from error
    except InputError as error:
        raise Refusal(str(error)) from error
    except RunFailed as error:
        failed = [job for job in jobs if job.status == "failed"]
        if not all(job.exit_code == FAILED and has_ended(job.log) for job in failed):
            raise Refusal(str(error), FAILED) from error


def _refuse_others(log: Path, words: Sequence[str]) -> None:
    """Refuse a log that is there if its command line does not begin with these words."""
    try:
        recorded = without_program(shlex.split(read_run(log).meta["command_line"]))
    except InputError:
        return
    if recorded[: len(words)] != list(words):
        raise Refusal(
            f"{log} is the log of another run, `{shlex.join(recorded)}`, not of "
            f"`{shlex.join(words)}`; choose another --out"
        )


def keep_settings(folder: Path, **values: object) -> None:
    """Note in a new folder what its results are made with; later calls must agree.

    Args:
        folder: exists; gets settings.json.
        values: settings that the results depend on, each a JSON value.

    Raises:
        Refusal: the folder holds results of other settings.
    """
    path = folder / "settings.json"
    if not path.is_file():
        replace_file(path, json.dumps(values).encode())
    before = json.loads(path.read_text("utf-8"))
    other = [
        f"{key}={before.get(key)!r}, not {value!r}"
        for key, value in values.items()
        if before.get(key) != value
    ]
    if other:
        raise Refusal(f"{folder} has results of {'; '.join(other)}; choose another --out")


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


def _there(_context: click.Context, _option: click.Parameter, name: str) -> str:
    try:
        return resolve_device(name)
    except InputError as error:
        raise Refusal(str(error)) from error


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
