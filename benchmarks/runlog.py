"""The cost of a log: time per row by number of columns, to open, seal and read; share of a run.

    python benchmarks/runlog.py [--json] [--rows 5000] [--epochs 10] [--folder DIR]

One process. CPU time includes the process's system time; wall time includes waiting for the disk
(one fsync every five seconds). The share is that of all calls of the log, from opening to sealing,
in the default `eqprop-run` with one row of 11 columns per step. A row of 15 columns is also
compared with a training step of 784-512-10 on 50 images by backpropagation, the cheapest step that
might be logged.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import cli
from bridge import session
from bridge.runlog import RunLog, open_run, read_run

COLUMNS = (5, 15, 25)
REPETITIONS = 5


def times(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall seconds of some work."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def log_rows(folder: Path, columns: int, rows: int) -> dict[str, float]:
    """Microseconds per row, and milliseconds to open, seal and read a log of that many columns."""
    names = [("step", int), *((f"value_{i}", float) for i in range(columns - 1))]
    kind = make_dataclass("Row", names, frozen=True)
    records = [kind(step, *(step / (i + 1) for i in range(columns - 1))) for step in range(rows)]
    path = folder / f"{columns}.h5"
    logs: list[Any] = []
    opening = times(
        lambda: logs.append(
            open_run(path, tables={"metrics": kind}, config={}, seed=0, overwrite=True)
        )
    )
    (log,) = logs
    writing = times(lambda: [log.log("metrics", record) for record in records])
    sealing = times(log.close)
    reading = times(lambda: read_run(path))
    return {
        "cpu_us_a_row": 1e6 * writing[0] / rows,
        "wall_us_a_row": 1e6 * writing[1] / rows,
        "open_ms": 1e3 * opening[1],
        "seal_ms": 1e3 * sealing[1],
        "read_ms": 1e3 * reading[1],
    }


def training_step() -> float:
    """CPU microseconds of one step of a perceptron 784-512-10 on 50 images by backpropagation."""
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x, labels = torch.rand(50, 784), torch.randint(10, (50,))

    def steps() -> None:
        for _ in range(200):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()

    steps()
    return 1e6 * times(steps)[0] / 200


class Meter:
    """Adds up the time spent in functions that may call each other."""

    def __init__(self) -> None:
        self.calls = 0
        self.cpu = self.wall = 0.0
        self._inside = False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that it is timed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            cpu, wall = time.process_time(), time.perf_counter()
            self._inside = True
            try:
                return function(*args, **kwargs)
            finally:
                self._inside = False
                self.calls += 1
                self.cpu += time.process_time() - cpu
                self.wall += time.perf_counter() - wall

        return call


def default_run(folder: Path, epochs: int) -> dict[str, float]:
    """Percentage of the time of a default `eqprop-run` that its log takes, and time per row."""
    command = ["eqprop-run", "--epochs", str(epochs), "--quiet", "--out", str(folder / "run.h5")]
    rows, rest = Meter(), Meter()
    patched = [(RunLog, name, rest) for name in ("event", "save_weights", "sync", "close")]
    with contextlib.ExitStack() as patches:
        for owner, name, meter in [(RunLog, "log", rows), (session, "open_run", rest), *patched]:
            timed = meter.timed(getattr(owner, name))
            patches.enter_context(mock.patch.object(owner, name, timed))
        cpu, wall = times(lambda: cli.main([*command, "--overwrite"], standalone_mode=False))
    return {
        "cpu_percent": 100 * (rows.cpu + rest.cpu) / cpu,
        "wall_percent": 100 * (rows.wall + rest.wall) / wall,
        "cpu_us_a_row": 1e6 * rows.cpu / rows.calls,
        "wall_us_a_row": 1e6 * rows.wall / rows.calls,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=10, help="of the default run, which is once")
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[int, list[dict[str, float]]] = {columns: [] for columns in COLUMNS}
    steps = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for _ in range(REPETITIONS):
            for columns in COLUMNS:
                runs[columns].append(log_rows(Path(folder), columns, arguments.rows))
            steps.append(training_step())
        share = default_run(Path(folder), arguments.epochs)
    result: dict[str, Any] = {
        f"{columns} columns": {
            key: statistics.median(run[key] for run in repeated) for key in repeated[0]
        }
        for columns, repeated in runs.items()
    }
    result["of the default eqprop-run"] = share
    step = statistics.median(steps)
    result["15 columns of a training step"] = {
        "cpu_percent": 100 * result["15 columns"]["cpu_us_a_row"] / step
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, figures in result.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
