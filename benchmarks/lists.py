"""The cost of reading many logs, and large logs: CPU time, wall time, memory.

    python benchmarks/lists.py [--json] [--logs 5000] [--rows 10000000] [--folder DIR] [--few]

Every command runs in its own process. The base is `runs list` of a folder with one empty log, which
is mostly the start of Python. Large logs are measured sealed, and as a kill leaves them. --few
skips the commands that read all rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bridge.runlog import open_run
from bridge.runlog.layout import LIBVER
from bridge.runlog.reader import Contents, read_contents
from bridge.runlog.reopening import reopen_run
from bridge.runlog.seal import write_sealed
from bridge.runlog.stream import held

CONFIG = {"rate": 0.5}

_SMALL = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime, used.ru_stime, used.ru_maxrss)
"""

_GO_ON = """
import os, sys
from benchmarks.lists import go_on
go_on(sys.argv[1], int(sys.argv[2]))
os._exit(0)
"""


@dataclass(frozen=True)
class Row:
    """A record with as many columns as that of a simple run."""

    step: int
    loss: float
    error: float


def small_log(path: Path, rows: int) -> Path:
    """Write a log as a run does."""
    with open_run(path, tables={"metrics": Row}, config=CONFIG, seed=0) as log:
        for step in range(rows):
            log.log("metrics", Row(step, 1 / (step + 1), step / 7))
    return path


def large_log(path: Path, rows: int, seed: int) -> Path:
    """Make a sealed log of many rows, faster than a run could write it."""
    small = read_contents(small_log(path.with_name("small.h5"), 1))
    path.with_name("small.h5").unlink()
    random_ = np.random.default_rng(seed)
    schema = small.schemas[0]
    steps = np.arange(rows)
    columns: dict[str, Any] = {"step": steps, "loss": 1 / (steps + 1.0)}
    columns["error"] = columns["loss"] + 0.01 * random_.standard_normal(rows)
    columns["crc"] = schema.crcs(columns)
    contents = Contents(
        small.meta, small.schemas, {**small.columns, "metrics": columns}, small.dropped, True
    )
    log = held(path, contents)
    with h5py.File(path, "w", libver=LIBVER) as file:
        write_sealed(file, log, log.own, None)
    return path


def go_on(path: Path, rows: int) -> None:
    """Continue a log after its last row, and leave it as a kill does."""
    tables: dict[str, type] = {"metrics": Row}
    reopen_run(path, tables=tables, config=CONFIG, rows={"metrics": rows}, step=rows).sync()


def measure(*arguments: object) -> dict[str, float]:
    """Run a command of cli.py; see `measured`."""
    return measured("cli.py", *arguments)


def measured(*arguments: object) -> dict[str, float]:
    """Run Python; give CPU and wall seconds, and peak memory in MB."""
    command = [sys.executable, *map(str, arguments)]
    began = time.perf_counter()
    # A child's peak memory includes that of the process that forks it, so that one is small.
    done = subprocess.run(
        [sys.executable, "-c", _SMALL, *command], stdout=subprocess.PIPE, text=True, check=True
    )
    user, system, memory = map(float, done.stdout.split())
    return {
        "cpu_s": user + system,
        "wall_s": time.perf_counter() - began,
        "memory_mb": memory / 1024,
    }


def of_many(folder: Path, logs: int) -> dict[str, dict[str, float]]:
    """Measure lists of many small logs."""
    for each in ("empty", "many"):
        (folder / each).mkdir()
    small_log(folder / "empty" / "run.h5", 0)
    first = small_log(folder / "many" / "0.h5", 200)
    for i in range(1, logs):
        shutil.copy(first, folder / "many" / f"{i}.h5")
    return {
        "list of an empty log": measure("runs", "list", folder / "empty"),
        f"list of {logs} logs": measure("runs", "list", folder / "many"),
        f"list of {logs} logs, JSON": measure("runs", "list", "--json", folder / "many"),
    }


def of_large(folder: Path, rows: int, few: bool) -> dict[str, dict[str, float]]:
    """Measure all operations on a log of many rows, sealed and not."""
    result = {}
    logs = [large_log(folder / f"{i}.h5", rows, i) for i in range(2)]
    for kind in ("sealed", "not sealed"):
        of = f"of a log of {rows} rows, {kind}"
        if kind == "not sealed":
            for log in logs:
                result[f"going on {of}"] = measured("-c", _GO_ON, log, rows)
        result[f"list {of}"] = measure("runs", "list", logs[0])
        result[f"show {of}"] = measure("runs", "show", logs[0])
        if few:
            continue
        target = folder / f"csv {kind}"
        result[f"export to CSV {of}"] = measure("runs", "export", logs[0], "--out", target)
        shutil.rmtree(target)
        page = folder / f"{kind}.html"
        result[f"compare --report of two, {kind}"] = measure("compare", *logs, "--report", page)
    result[f"sealing of a log of {rows} rows"] = measure("runs", "recover", logs[0])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--logs", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--few", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        result = of_many(Path(name), arguments.logs)
        result |= of_large(Path(name), arguments.rows, arguments.few)
    if arguments.json:
        print(json.dumps(result))
        return
    for what, figures in result.items():
        print(f"{what}: " + ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
