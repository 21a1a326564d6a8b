"""What a log costs: time a row by number of columns, and time to open, seal and read.

    python benchmarks/runlog.py [--json] [--rows 5000] [--folder DIR]

One process. CPU time is that of the process with the system's share; wall time has the waiting for
the disk in it (an fsync every five seconds). `share` compares a row of 15 columns with a training
step of 784-512-10 on 50 images by backpropagation, the least that a logged step can cost.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import torch

from bridge.runlog import open_run, read_run

COLUMNS = (5, 15, 25)
REPETITIONS = 5


def times(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall seconds of a piece of work."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def log_rows(folder: Path, columns: int, rows: int) -> dict[str, float]:
    """Microseconds a row, and milliseconds to open, seal and read a log of that many columns."""
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=5000)
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
    result: dict[str, Any] = {
        f"{columns} columns": {
            key: statistics.median(run[key] for run in repeated) for key in repeated[0]
        }
        for columns, repeated in runs.items()
    }
    step = statistics.median(steps)
    result["share"] = result["15 columns"]["cpu_us_a_row"] / step
    if arguments.json:
        print(json.dumps(result))
        return
    for name, figures in result.items():
        shown = figures if isinstance(figures, dict) else {"of a training step": figures}
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in shown.items()))


if __name__ == "__main__":
    main()
