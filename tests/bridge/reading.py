"""Read logs while they are written, with several readers; started as a separate process.

    python -m tests.bridge.reading FOLDER READS [READERS]

prints a JSON object of counts. The writer opens, fills and seals one log after another under the
same name. Only reads of logs that are being written count.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import mmap
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bridge.errors import InputError
from bridge.runlog import Run, read_run
from tests.bridge.records import Epoch, new_log, row, weights_of

ROWS = 2000
NOTE = "x" * 1500
PAUSE = 1e-3
"""Pause in seconds after a row, which leaves the processor to the readers."""
EXPECTED = {
    name: np.array([getattr(row(step), name) for step in range(ROWS)])
    for name in ("step", "loss", "converged", "phase")
}


class Acknowledged:
    """The log being written and its number of acknowledged rows; shared between processes."""

    def __init__(self) -> None:
        self._both = ctypes.c_int64.from_buffer(mmap.mmap(-1, 8))

    def set(self, log: int, rows: int) -> None:
        """Set both in one store."""
        self._both.value = log << 32 | rows

    def get(self) -> tuple[int, int]:
        """Give the log and its rows."""
        both = self._both.value
        return both >> 32, both & 0xFFFFFFFF


def write(path: Path, acknowledged: Acknowledged) -> None:
    """Write logs without end; the seed of each is its number."""
    for number in itertools.count(1):
        with new_log(path, seed=number, overwrite=True) as log:
            acknowledged.set(number, 0)
            for step in range(ROWS):
                log.log("metrics", row(step))
                acknowledged.set(number, step + 1)
                if step % 100 == 50:
                    log.log("epochs", Epoch(step, step // 100, step / 7))
                    log.save_weights(step, weights_of(step))
                    log.event("note", step=step, text=NOTE)
                time.sleep(PAUSE)


def check(run: Run, rows: int) -> None:
    """Check a log against what its writer writes, given the number of acknowledged rows."""
    metrics, epochs = run.table(), run.table("epochs")
    n = len(metrics["step"])
    assert rows <= n <= ROWS
    assert not run.dropped
    assert run.config == {"epochs": 3}
    for name, values in EXPECTED.items():
        assert np.array_equal(metrics[name], values[:n])
    # Tables are written in order, and read in the same order.
    steps = list(range(50, 100 * len(epochs["step"]), 100))
    assert epochs["step"].tolist() == steps
    assert epochs["error"].tolist() == [step / 7 for step in steps]
    assert len(steps) >= (rows - 52) // 100 + 1
    notes = [(event["step"], event["text"]) for event in run.events]
    assert notes == [(step, NOTE) for step in range(50, 100 * len(notes), 100)]
    assert len(notes) >= (rows - 52) // 100 + 1


def read(path: Path, acknowledged: Acknowledged, reads: int) -> Counter[str]:
    """Read the given number of logs while they are written; count those that were sealed."""
    found: Counter[str] = Counter()
    while found["while written"] < reads:
        number, rows = acknowledged.get()
        run = read_run(path)
        seed = run.meta["seed"]
        # The next log takes the name just before it is acknowledged.
        assert number <= seed <= acknowledged.get()[0] + 1
        check(run, rows if seed == number else 0)
        found["sealed" if run.sealed else "while written"] += 1
        if found.total() % 10 == 0 and seed == number and rows > 51:
            found[_weights(run)] += 1
    return found


def _weights(run: Run) -> str:
    try:
        step, weights = run.weights()
    except InputError as error:
        if "another run" not in str(error):
            raise
        return "replaced before its weights were read"
    assert all(np.array_equal(weights[name], w) for name, w in weights_of(step).items())
    return "with weights"


def fork(work: Callable[[], object]) -> int:
    """Run a function in a child; give its process."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except Exception:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    return pid


def main() -> None:
    """Let readers read the given number of times in total, and print what they read."""
    folder, reads = Path(sys.argv[1]), int(sys.argv[2])
    readers = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    path, acknowledged = folder / "run.h5", Acknowledged()
    new_log(path, seed=0).close()
    writer = fork(lambda: write(path, acknowledged))
    while acknowledged.get() < (1, 1):
        pass

    def work(i: int) -> None:
        found = read(path, acknowledged, reads // readers + (i < reads % readers))
        (folder / f"{i}.json").write_text(json.dumps(found))

    pids = [fork(lambda i=i: work(i)) for i in range(readers)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    if any(codes):
        sys.exit(f"readers ended with {codes}")
    found: Counter[str] = Counter()
    for i in range(readers):
        found.update(json.loads((folder / f"{i}.json").read_text()))
    print(json.dumps({"readers": readers, "logs": acknowledged.get()[0], **found}))


if __name__ == "__main__":
    main()
