"""Many runs of one command: the points of a sweep, their processes, and an index of what came out.

A point is a dict from config keys to values as text. Each has a log of its own in one folder, named
after the point alone, so that a sweep can be gone on with, and made larger, in the same folder.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import math
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from bridge.errors import InputError, RunFailed, Stopped, StorageError
from bridge.runlog import read_run

MAX_RUNS = 10_000
INDEX = "index"
_NAME_LENGTH = 80
_POLL_SECONDS = 0.05
# Libraries of linear algebra start these many threads each, whatever torch is told.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_EXIT_USAGE, _EXIT_STORAGE, _EXIT_STOPPED = 2, 74, 75

Point = dict[str, str]


@dataclass
class Job:
    """One run of a sweep: where its log goes, how it is started, and what became of it."""

    log: Path
    point: Mapping[str, Any]
    command: Sequence[str]
    status: str = "waiting"
    exit_code: int | None = None
    message: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)


def parse_seeds(text: str) -> list[str]:
    """Read "0..9" (both ends are run), "1,5,7" or "0..3,8".

    Raises:
        InputError: anything else, a seed given twice, more than MAX_RUNS of them.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,18})(?:\.\.(\d{1,18}))?\s*", part, re.ASCII)
        if not found:
            raise InputError(f"--seeds {text}: write whole numbers >= 0, as 0..9 or 0,1,5")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise InputError(f"--seeds {text}: {first}..{last} is empty; write {last}..{first}")
        if len(seeds) + last - first >= MAX_RUNS:
            raise InputError(f"--seeds {text}: more than {MAX_RUNS} runs; give fewer seeds")
        seeds += range(first, last + 1)
    return _distinct(f"--seeds {text}", [str(seed) for seed in seeds])


def parse_sweep(text: str) -> tuple[str, list[str]]:
    """Read "key=a,b,c"; a comma inside brackets or quotes does not part two values.

    Raises:
        InputError: no key, an empty value, or one given twice.
    """
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--sweep {text}: write --sweep key=a,b,c")
    parts, depth, quote = [""], 0, ""
    for sign in values:
        if sign in "\"'" and quote in ("", sign):
            quote = "" if quote else sign
        elif not quote:
            depth += (sign in "[{") - (sign in "]}")
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    parts = [part.strip() for part in parts]
    if "" in parts:
        raise InputError(f"--sweep {text}: a value is empty; write --sweep key=a,b,c")
    return key.strip(), _distinct(f"--sweep {text}", parts)


def points(seeds: str | None, sweeps: Sequence[str]) -> list[Point]:
    """List every combination of the values, the last key's changing fastest, seeds last.

    Args:
        seeds: see `parse_seeds`.
        sweeps: see `parse_sweep`.

    Raises:
        InputError: as those, a key given twice, more than MAX_RUNS combinations.
    """
    axes = [parse_sweep(text) for text in sweeps]
    if seeds is not None:
        axes.append(("seed", parse_seeds(seeds)))
    keys = [key for key, _ in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"--sweep {key}: swept twice; give all its values at once")
    count = math.prod(len(values) for _, values in axes)
    if count > MAX_RUNS:
        raise InputError(f"--sweep: {count} runs are more than {MAX_RUNS}; give fewer values")
    return [
        dict(zip(keys, values, strict=True)) for values in itertools.product(*(v for _, v in axes))
    ]


def point_name(point: Point) -> str:
    """Name a point's files: "tau=0.1,seed=3"; with a hash where the text does not say it all."""
    text = ",".join(f"{key}={value}" for key, value in point.items())
    name = re.sub(r"[^A-Za-z0-9._=,+-]", "-", text)
    if name == text and len(name) <= _NAME_LENGTH:
        return name
    return f"{name[:_NAME_LENGTH]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    command: str,
    *,
    parallel: int,
    threads: int,
    on_end: Callable[[Job], None] = lambda job: None,
) -> None:
    """Run what is not finished, some at a time; keep the index in step with it.

    Args:
        jobs: those with status "finished" are not run.
        folder: of the logs and the index.
        command: name for the index.
        parallel: processes at a time.
        threads: of each process.
        on_end: called when a run has ended.

    Raises:
        Stopped: after SIGTERM or Ctrl-C, once every process has ended.
        RunFailed: some runs failed; the others have been run to their end.
        InputError: some runs failed, each for a user's value; or the index is foreign.
        StorageError: the disk refused a log or the index; what ran was stopped.
    """
    earlier = _read_index(folder)

    def index() -> None:
        _write_index(folder, command, jobs, earlier)

    for job in jobs:
        if job.status == "finished":
            job.summary = _summary(job.log)
    with _storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    index()
    processes = _Processes(threads)
    waiting = [job for job in jobs if job.status != "finished"]
    with _signals() as received, processes:
        while waiting or processes.running:
            full = any(job.exit_code == _EXIT_STORAGE for job in jobs)
            if received or full:
                waiting.clear()
                processes.stop(signal.SIGKILL if len(received) > 1 else signal.SIGTERM)
            while waiting and len(processes.running) < parallel:
                processes.start(waiting.pop(0))
            for job in processes.ended():
                job.summary = _summary(job.log) if job.status == "finished" else {}
                on_end(job)
                index()
            time.sleep(_POLL_SECONDS)
    _conclude(jobs, folder, bool(received))


class _Processes:
    """The processes that run now; all are stopped where the block is left early."""

    def __init__(self, threads: int) -> None:
        self.running: dict[subprocess.Popen[bytes], tuple[Job, IO[bytes]]] = {}
        self._sent: set[int] = set()
        self._environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop(signal.SIGTERM)
        for process, (_, said) in self.running.items():
            process.wait()
            said.close()

    def start(self, job: Job) -> None:
        said = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the process has ended)
        # In a session of its own, so that a terminal's Ctrl-C reaches it through this process only.
        process = subprocess.Popen(
            list(job.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=self._environment,
            start_new_session=True,
        )
        job.status = "running"
        self.running[process] = (job, said)

    def stop(self, number: int) -> None:
        if number not in self._sent:
            self._sent.add(number)
            for process in self.running:
                process.send_signal(number)

    def ended(self) -> list[Job]:
        found = []
        for process in [each for each in self.running if each.poll() is not None]:
            job, said = self.running.pop(process)
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
            said.close()
            job.exit_code = process.returncode
            ended_by_us = self._sent and job.exit_code in (-signal.SIGTERM, -signal.SIGKILL)
            if job.exit_code == 0:
                job.status = "finished"
            elif job.exit_code == _EXIT_STOPPED or ended_by_us:
                job.status = "stopped"
            else:
                job.status = "failed"
                last = lines[-1].removeprefix("error: ") if lines else ""
                job.message = last or f"ended with exit code {job.exit_code}"
            found.append(job)
        return found


def _distinct(where: str, values: list[str]) -> list[str]:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise InputError(f"{where}: {value} is given twice; give each value once")
        seen.add(value)
    return values


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of being ended by them."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _conclude(jobs: Sequence[Job], folder: Path, signalled: bool) -> None:
    failed = [job for job in jobs if job.status == "failed"]
    done = sum(job.status == "finished" for job in jobs)
    if failed:
        others = f" ({len(failed)} of {len(jobs)} runs failed; see {folder / INDEX}.json)"
        text = f"{failed[0].log.name}: {failed[0].message}{others if len(jobs) > 1 else ''}"
        codes = {job.exit_code for job in failed}
        if _EXIT_STORAGE in codes:
            raise StorageError(text)
        if not signalled:
            raise InputError(text) if codes == {_EXIT_USAGE} else RunFailed(text)
    if done < len(jobs):
        raise Stopped(
            f"stopped: {done} of {len(jobs)} runs are finished; go on with --resume --out {folder}"
        )


def _summary(log: Path) -> Mapping[str, Any]:
    found = [event["of"] for event in read_run(log).events if event["kind"] == "summary"]
    return found[-1] if found else {}


def _read_index(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of an index by log; empty if there is none."""
    path = folder / f"{INDEX}.json"
    try:
        entries = json.loads(path.read_bytes())["runs"]
        return {str(entry["log"]): {**entry, "point": dict(entry["point"])} for entry in entries}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"{path}: no index of a sweep; move it away or give another --out"
        ) from None


def _write_index(
    folder: Path, command: str, jobs: Sequence[Job], earlier: Mapping[str, dict[str, Any]]
) -> None:
    entries = {name: entry for name, entry in earlier.items() if (folder / name).exists()}
    for job in jobs:
        entries[job.log.name] = {**asdict(job), "log": job.log.name, "command": list(job.command)}
    # JSON has no NaN: null stands for it.
    content = json.dumps({"command": command, "runs": list(entries.values())})
    whole = json.loads(content, parse_constant=lambda name: None)
    text = json.dumps(whole, indent=1, allow_nan=False)
    rows = [
        {
            "log": entry["log"],
            "status": entry.get("status"),
            **dict(_scalars(entry["point"])),
            **{f"summary.{key}": value for key, value in _scalars(entry.get("summary", {}))},
        }
        for entry in entries.values()
    ]
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    with _storage(folder):
        for suffix, content in (("json", text), ("csv", sheet.getvalue())):
            new = folder / f"{INDEX}.{suffix}.new"
            new.write_text(content, "utf-8", newline="")
            os.replace(new, folder / f"{INDEX}.{suffix}")


def _scalars(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text under a dotted key; lists of other things than tables as JSON."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _scalars(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and value and all(isinstance(v, Mapping) for v in value):
        for i, each in enumerate(value):
            yield from _scalars(each, f"{key}.{i}" if key else str(i))
    else:
        yield key, json.dumps(value) if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def _storage(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from None
