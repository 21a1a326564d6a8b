"""Kill runs with checkpoints at random moments, go on with them, and look at what they end with.

    python -m tests.bridge.killing_sessions FOLDER KILLS [SEED]

prints a JSON object of counts. A run is killed again and again, and goes on each time, until it
ends. Half of the kills come at a random time, as from outside; the others where the process is
about to ask the system for something: to open, rename or remove a file.
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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from bridge.checkpoint import KEPT, MANIFEST, checkpoints, random_states, set_random_states
from bridge.errors import InputError
from bridge.runlog import Run, read_run, recover
from bridge.session import checkpoint_folder, find_start, training_session
from tests.bridge.killing import Say, Told, fork
from tests.bridge.records import Step

MAX_STEPS = 12
CALLS = ("open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.scandir")
"""Audit events, each just before a call of the system."""


class Loop:
    """Noise that is summed up: each row and the state depend on all steps before."""

    def __init__(self) -> None:
        self.noise = torch.Generator().manual_seed(7)
        self.sum = torch.zeros(256, 128, dtype=torch.float64)
        self.rows: list[Step] = []

    def step(self) -> Step:
        """Add noise; give the row."""
        step = len(self.rows) + 1
        self.sum += torch.randn(self.sum.shape, generator=self.noise, dtype=torch.float64)
        phase = "nudged" if step % 2 else "free"
        self.rows.append(Step(step, float(self.sum.mean()), step % 3 == 0, phase))
        return self.rows[-1]

    def snapshot(self) -> dict[str, Any]:
        """All that the next step depends on."""
        rows = [[r.step, r.loss, r.converged, r.phase] for r in self.rows]
        return {"sum": self.sum, "rows": rows, "random": random_states(noise=self.noise)}

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.sum = saved["sum"]
        self.rows = [Step(*each) for each in saved["rows"]]
        set_random_states(saved["random"], noise=self.noise)


@cache
def truth() -> tuple[list[Step], list[torch.Tensor]]:
    """Rows and sums of a run that is never stopped; the sum of no step first."""
    loop = Loop()
    sums = [loop.sum.clone()]
    for _ in range(MAX_STEPS):
        loop.step()
        sums.append(loop.sum.clone())
    return loop.rows, sums


@dataclass(frozen=True)
class Plan:
    """A run: how many steps, how many between checkpoints and between weights in the log."""

    path: Path
    steps: int
    every: int
    keep: int

    def run(self, say: Say, killed_at: int = 0) -> None:
        """Train, and be killed at that call of the system, counted from 1."""
        if killed_at:
            _die_at(self.path.parent, killed_at)
        loop = Loop()
        with training_session(
            self.path,
            tables={"metrics": Step},
            config={"steps": self.steps},
            seed=7,
            resume=True,
            checkpoint_every=self.every,
            weights={"sum": loop.sum},
        ) as session:
            if session.start is not None:
                loop.load(session.start)
            say("open", session.step)
            for step in range(session.step + 1, self.steps + 1):
                session.log.log("metrics", loop.step())
                say("row", step)
                if step % self.keep == 0:
                    session.log.save_weights(step, {"sum": loop.sum})
                    say("weights", step)
                session.after_step(step, loop.snapshot)
                if step % self.every == 0:
                    say("checkpoint", step)
        say("end", self.steps)


def _die_at(folder: Path, count: int) -> None:
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
        steps = random_.randrange(2, MAX_STEPS + 1)
        path = folder / "run.h5"
        self.plan = Plan(path, steps, random_.randrange(1, 4), random_.randrange(1, 5))
        self._random = random_
        self._seconds = seconds
        self._calls = calls
        self._rows = self._saved = self._weights = 0  # the last steps acknowledged
        self._start = 0  # where the next process goes on
        self._sealed = False

    def kill_once(self) -> str:
        """Go on with the run and kill it; say when that was, "" if it has ended."""
        if self._finished():
            return ""
        from_outside = self._random.random() < 0.5
        killed_at = 0 if from_outside else self._random.randrange(1, self._calls)
        pid, pipe = fork(lambda say: self.plan.run(say, killed_at))
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
        if "open" in told:
            assert told["open"] == self._start
            self._rows = max(self._start, told.get("row", 0))
        else:
            # Rows past the checkpoint are written again, and so are weights; of a sealed log's,
            # which has no older ones, none may be left.
            self._rows = min(self._rows, self._start)
        stay = self._weights <= self._start and not self._sealed
        self._weights = told.get("weights", self._weights if stay else 0)
        self._saved = max(self._saved, told.get("checkpoint", 0))
        self._check(read_run(path))
        self._recover()
        self._sealed = read_run(path).sealed
        return moment

    def _recover(self) -> None:
        """Seal the log, or a copy; any HDF5 reader then sees what ours does."""
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
        assert len(steps) >= self._rows
        if here:
            self._check(read_run(path))
        else:
            sealed.unlink()

    def _check(self, run: Run) -> None:
        """All that was acknowledged is there and right, and the newest checkpoint is good."""
        rows, sums = truth()
        metrics = run.table()
        n = len(metrics["step"])
        assert self._rows <= n <= self.plan.steps
        assert not run.dropped
        for name in ("step", "loss", "converged", "phase"):
            assert metrics[name].tolist() == [getattr(each, name) for each in rows[:n]]
        step, weights = _weights(run)
        assert step >= self._weights
        assert step == 0 or np.array_equal(weights["sum"], sums[step])
        if run.status == "finished":
            assert n == self.plan.steps
            return
        warnings: list[str] = []
        start = find_start(run, warn=warnings.append)
        assert warnings == []
        self._start = start.step if start else 0
        assert self._start >= self._saved
        if start:
            assert start.step == start.facts["rows"]["metrics"] == len(start.state["rows"]) <= n
            assert torch.equal(start.state["sum"], sums[start.step])

    def finish(self) -> None:
        """Let the run end, and compare it with one that was never stopped."""
        path = self.plan.path
        if not self._finished():
            pid, pipe = fork(self.plan.run)
            assert "end" in Told(pipe).last()
            assert os.waitpid(pid, 0)[1] == 0
            assert sorted(path.parent.iterdir()) == [path]
        recover(path)  # of a run that was killed as its log was sealed
        run = read_run(path)
        assert (run.status, run.sealed) == ("finished", True)
        self._rows = self.plan.steps
        self._weights = self.plan.steps // self.plan.keep * self.plan.keep
        self._check(run)
        path.unlink()
        shutil.rmtree(checkpoint_folder(path), ignore_errors=True)


def _weights(run: Run) -> tuple[int, dict[str, Any]]:
    """Give the weights in a log, of step 0 if there are none; refuses damaged ones."""
    try:
        return run.weights()
    except InputError as error:
        if "without weights" not in str(error):
            raise
        return 0, {}


def _moment(path: Path, pid: int, told: dict[str, int]) -> str:
    """Tell from what lies there what the process was doing."""
    folder = checkpoint_folder(path)
    unfinished = next(iter(folder.glob(f".step-*.{pid}")), None)
    if unfinished is not None:
        written = (unfinished / MANIFEST).exists()
        return "as a checkpoint was renamed" if written else "as a checkpoint's files were written"
    if path.with_name(f"{path.name}.new.{pid}").exists():
        return "as the log was opened again"
    run = read_run(path)
    if path.with_name(f"{path.name}.tmp.{pid}").exists() or (not told and run.sealed):
        return "as the log was sealed" if told else "as the log was opened again"
    if run.status == "finished":
        return "as the run's checkpoints were removed" if run.sealed else "as the log was sealed"
    found = checkpoints(folder)
    if len(found) > KEPT:
        return "as an older checkpoint was removed"
    if found and int(found[0].name[5:]) > max(told.get("checkpoint", 0), told.get("open", 0)):
        return "just after a checkpoint was renamed"
    return "while rows were written" if told else "as the log was opened again"


def measure(folder: Path) -> tuple[tuple[float, float], int]:
    """Give the seconds of a run's opening and of a step, and the calls of the system in all."""
    plan, calls = Plan(folder / "first.h5", MAX_STEPS, 2, 3), [0]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        calls[0] += event in CALLS and str(args[0]).startswith(str(folder))

    def count(say: Say) -> None:
        sys.addaudithook(hook)
        plan.run(say)
        say("calls", calls[0])

    plan.run(lambda what, step: None)  # gathers facts that forks inherit
    plan.path.unlink()
    times = [time.monotonic()]
    pid, pipe = fork(count)
    told = Told(pipe)
    for line in ("open0", f"row{MAX_STEPS}"):
        told.wait_for(line)
        times.append(time.monotonic())
    last = told.last()
    os.waitpid(pid, 0)
    plan.path.unlink()
    return (times[1] - times[0], (times[2] - times[1]) / MAX_STEPS), last["calls"]


def main() -> None:
    """Kill as many times as asked for and print when that was."""
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
