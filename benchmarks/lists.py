"""What it costs to look at many logs, and at a large one: CPU time, wall time, memory.

    python benchmarks/lists.py [--json] [--logs 5000] [--rows 10000000] [--folder DIR] [--few]

Every command runs in a process of its own. The base is `runs list` of a folder with one empty log,
which is mostly the start of Python. --few leaves out the commands that read all rows.
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
from bridge.runlog.seal import write_sealed

_SMALL = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime, used.ru_stime, used.ru_maxrss)
"""


@dataclass(frozen=True)
class Row:
    """As many columns as a simple run has."""

    step: int
    loss: float
    error: float


def small_log(path: Path, rows: int) -> Path:
    """Write a log as a run does."""
    with open_run(path, tables={"metrics": Row}, config={"rate": 0.5}, seed=0) as log:
        for step in range(rows):
            log.log("metrics", Row(step, 1 / (step + 1), step / 7))
    return path


def large_log(path: Path, rows: int, seed: int) -> Path:
    """Make a sealed log of many rows, faster than a run could."""
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
    with h5py.File(path, "w", libver=LIBVER) as file:
        write_sealed(file, contents, None)
    return path


def measure(*arguments: object) -> dict[str, float]:
    """Run a command; give CPU and wall seconds, and the most memory in MB."""
    command = [sys.executable, "cli.py", *map(str, arguments)]
    began = time.perf_counter()
    # A child's memory counts that of the process that it is forked from, so that one is small.
    done = subprocess.run(
        [sys.executable, "-c", _SMALL, *command], stdout=subprocess.PIPE, text=True, check=True
    )
    user, system, memory = map(float, done.stdout.split())
    return {
        "cpu_s": user + system,
        "wall_s": time.perf_counter() - began,
        "memory_mb": memory / 1024,
    }


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
        folder = Path(name)
        for each in ("empty", "many", "large"):
            (folder / each).mkdir()
        small_log(folder / "empty" / "run.h5", 0)
        first = small_log(folder / "many" / "0.h5", 200)
        for i in range(1, arguments.logs):
            shutil.copy(first, folder / "many" / f"{i}.h5")
        large, other = (
            large_log(folder / "large" / f"{i}.h5", arguments.rows, i) for i in range(2)
        )
        result = {
            "list of an empty log": measure("runs", "list", folder / "empty"),
            f"list of {arguments.logs} logs": measure("runs", "list", folder / "many"),
            f"list of {arguments.logs} logs, JSON": measure(
                "runs", "list", "--json", folder / "many"
            ),
            f"list of a log of {arguments.rows} rows": measure("runs", "list", large),
            f"show of a log of {arguments.rows} rows": measure("runs", "show", large),
        }
        if not arguments.few:
            result["export to CSV"] = measure("runs", "export", large, "--out", folder / "csv")
            result["compare --report of two"] = measure(
                "compare", large, other, "--report", folder / "report.html"
            )
    if arguments.json:
        print(json.dumps(result))
        return
    for what, figures in result.items():
        print(f"{what}: " + ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
