"""Kill runs with checkpoints at random moments, resume them, and check their results.

    python -m tests.bridge.killing_sessions FOLDER KILLS [SEED]

prints a JSON object of counts. A run is killed and resumed again and again until it ends. Half of
the kills come at a random time, as from outside; the others when the process is about to make a
system call: to open, rename or remove a file.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import torch

from bridge.checkpoint import KEPT, MANIFEST, checkpoints
from bridge.runlog import read_run, recover
from bridge.session import checkpoint_folder, tidy
from tests.bridge.killing import Say, Told, fork
from tests.bridge.sessions import Plan, check, truth

STEPS = 12
CALLS = ("open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.scandir")
"""Audit events, each raised just before a system call."""


def _die_at(folder: Path, count: int) -> None:
    """Be killed at the given system call on the folder, counted from 1."""
    calls = itertools.count(1)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        where = str(args[0]) if event in CALLS else ""
        if where.startswith(str(folder)) and next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


class Life:
    """A run from its first start to its end, through all kills."""

    def __init__(
        self, folder: Path, random_: random.Random, seconds: tuple[float, float], calls: int
    ) -> None:
        """Choose a run; see `measure`."""
        steps = random_.randrange(2, STEPS + 1)
        path = folder / "run.h5"
        self.plan = Plan(path, steps, random_.randrange(1, 4), random_.randrange(1, 5))
        self._random = random_
        self._seconds = seconds
        self._calls = calls
        self._told: dict[str, int] = {}  # the last steps acknowledged
        self._start = 0  # where the next process continues
        self._sealed = False

    def kill_once(self) -> str:
        """Resume the run and kill it; give the moment, "" if the run has ended."""
        if self._finished():
            return ""
        from_outside = self._random.random() < 0.5
        killed_at = self._random.randrange(1, self._calls)

        def work(say: Say) -> None:
            if not from_outside:
                _die_at(self.plan.path.parent, killed_at)
            self.plan.run(say)

        pid, pipe = fork(work)
        told = Told(pipe)
        if from_outside:
            step = self._random.choice([0, self._start + self.plan.every, self.plan.steps])
            if step:
                told.wait_for(f"row{min(step, self.plan.steps)}")
            time.sleep(self._random.uniform(0, 1.5 * self._seconds[bool(step)]))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        last = told.last()
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return "" if "end" in last else self._look(pid, last)

    def _finished(self) -> bool:
        path = self.plan.path
        return path.exists() and read_run(path).status == "finished"

    def _look(self, pid: int, told: dict[str, int]) -> str:
        path = self.plan.path
        if not path.exists():
            assert not told
            return "before the log was there"
        moment = _moment(path, pid, told)
        # Rows past the checkpoint are written again, and so are weights. A sealed log has no older
        # weights, so none may be left.
        before = self._told
        self._told = {"row": min(before.get("row", 0), self._start)}
        if "checkpoint" in before:
            self._told["checkpoint"] = before["checkpoint"]
        if before.get("weights", 0) <= self._start and not self._sealed:
            self._told["weights"] = before.get("weights", 0)
        assert told.get("open", self._start) == self._start
        self._told |= told
        self._check(path)
        self._recover()
        self._sealed = read_run(path).sealed
        return moment

    def _check(self, path: Path) -> None:
        run = read_run(path)
        self._start = check(run, self._told)
        assert self._start == self.plan.steps or run.status != "finished"

    def _recover(self) -> None:
        """Seal the log, or a copy; any HDF5 reader then sees what our reader does."""
        path = self.plan.path
        here = self._random.random() < 0.5
        sealed = path if here else path.with_name("copy.h5")
        if not here:
            shutil.copy(path, sealed)
        recover(sealed)
        with h5py.File(sealed) as file:
            steps = file["metrics/step"][:].tolist()
            losses = file["metrics/loss"][:].tolist()
        assert losses == [each.loss for each in truth()[0][: len(steps)]]
        assert len(steps) >= self._told["row"]
        if here:
            self._check(path)
        else:
            sealed.unlink()

    def finish(self) -> None:
        """Let the run end, and compare it with one that was never stopped."""
        path = self.plan.path
        if not self._finished():
            pid, pipe = fork(self.plan.run)
            assert "end" in Told(pipe).last()
            assert os.waitpid(pid, 0)[1] == 0
        else:
            tidy(path)
        assert sorted(path.parent.iterdir()) == [path]
        run = read_run(path)
        assert (run.status, run.sealed) == ("finished", True)
        self._told = {"weights": self.plan.steps // self.plan.keep * self.plan.keep}
        self._check(path)
        path.unlink()


def _moment(path: Path, pid: int, told: dict[str, int]) -> str:
    """Infer from the files what the process was doing."""
    folder = checkpoint_folder(path)
    run = read_run(path)
    if run.status == "finished" and run.sealed:
        return "as the last checkpoints were removed"
    unfinished = next(iter(folder.glob(f".step-*.{pid}")), None)
    if unfinished is not None:
        written = (unfinished / MANIFEST).exists()
        return "as a checkpoint was renamed" if written else "as a checkpoint's files were written"
    if path.with_name(f"{path.name}.new.{pid}").exists():
        return "as the log was opened again"
    if path.with_name(f"{path.name}.tmp.{pid}").exists() or (not told and run.sealed):
        return "as the log was sealed" if told else "as the log was opened again"
    if run.status == "finished":
        return "as the log was sealed"
    found = checkpoints(folder)
    if len(found) > KEPT or any(folder.glob(f".step-*.{pid}.old")):
        return "as an older checkpoint was removed"
    if found and int(found[0].name[5:]) > max(told.get("checkpoint", 0), told.get("open", 0)):
        return "just after a checkpoint was renamed"
    return "while rows were written" if told else "as the log was opened again"


def measure(folder: Path) -> tuple[tuple[float, float], int]:
    """Measure the seconds of a run's opening and of a step, and count all system calls."""
    plan, calls = Plan(folder / "first.h5", STEPS, 2, 3), [0]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        calls[0] += event in CALLS and str(args[0]).startswith(str(folder))

    def count(say: Say) -> None:
        sys.addaudithook(hook)
        plan.run(say)
        say("calls", calls[0])

    plan.run(lambda what, step: None)  # collects facts that forks inherit
    plan.path.unlink()
    times = [time.monotonic()]
    pid, pipe = fork(count)
    told = Told(pipe)
    for line in ("open0", f"row{STEPS}"):
        told.wait_for(line)
        times.append(time.monotonic())
    last = told.last()
    os.waitpid(pid, 0)
    plan.path.unlink()
    return (times[1] - times[0], (times[2] - times[1]) / STEPS), last["calls"]


def main() -> None:
    """Kill the given number of times, and print at which points."""
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    random_ = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    torch.set_num_threads(1)
    seconds, calls = measure(folder)
    moments: Counter[str] = Counter()
    runs = 0
    while moments.total() < kills:
        life = Life(folder, random_, seconds, calls)
        while moments.total() < kills:
            moment = life.kill_once()
            if not moment:
                break
            moments[moment] += 1
        life.finish()
        runs += 1
    print(json.dumps({"kills": kills, "runs": runs, "moments": moments}))


if __name__ == "__main__":
    main()
