"""Kill writers at random moments and check what is left; started as a separate process.

    python -m tests.bridge.killing FOLDER KILLS [SEED]

prints a JSON object of counts. The writers are forked from this process, which has already imported
everything, so that a kill takes only hundredths of a second.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from bridge.runlog import Run, read_run, recover
from tests.bridge.records import new_log, row, weights_of

MAX_ROWS = 40


Say = Callable[[str, int], None]
"""Tells the parent what has been acknowledged: a word and a step."""


def write(path: Path, rows: int, say: Say) -> None:
    """Write a log."""
    with new_log(path, overwrite=True) as log:
        say("open", 0)
        for step in range(rows):
            log.log("metrics", row(step))
            say("row", step)
            if step % 10 == 3:
                log.save_weights(step, weights_of(step))
                say("weights", step)
            if step % 10 == 7:
                log.event("note", step=step, text="x" * 1500)
                say("event", step)
    say("sealed", 0)


def fork(work: Callable[[Say], None]) -> tuple[int, int]:
    """Run a function in a child; give its process and the pipe for its messages."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        code = 1
        try:
            work(lambda what, step: os.write(writing, f"{what}{step}\n".encode()) and None)
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    return pid, reading


def fork_writer(path: Path, rows: int) -> tuple[int, int]:
    """Start a writer; give its process and the pipe to read from."""
    return fork(lambda say: write(path, rows, say))


class Told:
    """The messages of a writer through its pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._text = ""

    def wait_for(self, line: str) -> None:
        """Read until a line has arrived, or the pipe has ended."""
        while f"{line}\n" not in self._text and self._read():
            pass

    def last(self) -> dict[str, int]:
        """Read to the end; give the last acknowledged step of each kind."""
        while self._read():
            pass
        os.close(self._pipe)
        steps = {}
        for line in self._text.splitlines():
            what = line.rstrip("0123456789")
            steps[what] = int(line[len(what) :])
        return steps

    def _read(self) -> bool:
        new = os.read(self._pipe, 1 << 16).decode()
        self._text += new
        return bool(new)


def check(run: Run, told: dict[str, int], rows: int) -> None:
    """Compare a log with what was acknowledged: every row is right, none is missing."""
    metrics = run.table()
    n = len(metrics["step"])
    expected = [row(step) for step in range(n)]
    assert told.get("row", -1) < n <= rows
    assert not run.dropped
    for name in ("step", "loss", "converged", "phase"):
        assert metrics[name].tolist() == [getattr(each, name) for each in expected]
    notes = [event["step"] for event in run.events if event["kind"] == "note"]
    assert notes == list(range(7, 10 * len(notes), 10))
    assert told.get("event", -1) <= max(notes, default=-1)
    if "weights" in told:
        step, weights = run.weights()
        assert step >= told["weights"]
        assert all(np.array_equal(weights[name], w) for name, w in weights_of(step).items())


def kill_one(folder: Path, random_: random.Random, seconds: Mapping[str, float]) -> str:
    """Kill one writer at some point, check, recover, check again; give the moment."""
    path = folder / "run.h5"
    rows = random_.randrange(1, MAX_ROWS)
    # Some writers replace an older log, which must exist until the new one does.
    older = path.exists() and random_.random() < 0.5
    if not older:
        path.unlink(missing_ok=True)
    before = path.read_bytes() if older else b""
    stage = random_.choices(["opening", "row", "sealing"], [1, 2, 1])[0]
    pid, pipe = fork_writer(path, rows)
    told = Told(pipe)
    if stage != "opening":
        told.wait_for(f"row{rows - 1 if stage == 'sealing' else random_.randrange(rows)}")
    time.sleep(random_.uniform(0, seconds[stage]))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    last = told.last()
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    if "open" not in last and before == (path.read_bytes() if path.exists() else b""):
        return "before the log was there"
    run = read_run(path)
    check(run, last, rows)
    recover(path)
    recovered = read_run(path)
    check(recovered, last, rows)
    with h5py.File(path) as file:
        assert file["metrics/step"][:].tolist() == recovered.table()["step"].tolist()
    assert [p for p in folder.iterdir() if ".tmp." in p.name] == []
    if run.sealed:
        return "after sealing"
    return "as it was sealed" if run.status != "running" else "while rows were written"


def main() -> None:
    """Kill the given number of writers, and print at which points."""
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    random_ = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    new_log(folder / "first.h5", overwrite=True).close()  # collects facts that forks inherit
    pid, pipe = fork_writer(folder / "run.h5", 1)
    told, times = Told(pipe), [time.monotonic()]
    for line in ("open0", "row0", "sealed0"):
        told.wait_for(line)
        times.append(time.monotonic())
    os.waitpid(pid, 0)
    lengths = [b - a for a, b in pairwise(times)]
    seconds = dict(zip(("opening", "row", "sealing"), lengths, strict=True))
    moments = Counter(kill_one(folder, random_, seconds) for _ in range(kills))
    print(json.dumps({"kills": kills, "moments": moments}))


if __name__ == "__main__":
    main()
