"""Run several command lines in parallel; finished runs are not repeated."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
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
from typing import IO, Any

import click

from bridge.console import resolve_device
from bridge.disk import replace_file
from bridge.errors import InputError
from bridge.invocation import without_program
from bridge.progress import Progress, progress
from bridge.runlog import Run, read_run

CLI = Path(__file__).parent.parent / "cli.py"
FAILED = 1
"""The exit status of a run that had to end, e.g. because a network diverged: a result too."""


class Refusal(click.ClickException):
    """An experiment cannot use what it was given: one line, exit code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message as the commands print theirs."""
        click.echo(f"error: {self.message}", file, err=file is None)


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
        Refusal: a log is there, of a run with other arguments.
        RuntimeError: a run ended neither successfully nor with a diverged network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    click.echo(f"logs: {folder}", err=True)
    asked = {name: [command, *arguments, "--quiet"] for name, arguments in jobs.items()}
    for name, words in asked.items():
        _refuse_others(folder / f"{name}.h5", words)

    def run(name: str) -> Run:
        out = folder / f"{name}.h5"
        if not has_ended(out):
            words = [sys.executable, str(CLI), *asked[name]]
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


def _refuse_others(path: Path, words: Sequence[str]) -> None:
    """Refuse the log of an ended run whose command line does not begin with these words."""
    if not has_ended(path):
        return
    recorded = without_program(shlex.split(read_run(path).meta["command_line"]))
    if recorded[: len(words)] != list(words):
        raise Refusal(
            f"{path} is the log of another run, `{shlex.join(recorded)}`, not of "
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
