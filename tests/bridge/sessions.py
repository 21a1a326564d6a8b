"""A small run with checkpoints, whose rows and states are all known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bridge.checkpoint import random_states, set_random_states
from bridge.errors import InputError
from bridge.resuming import find_start
from bridge.runlog import Run
from bridge.session import training_session
from tests.bridge.killing import Say
from tests.bridge.records import Step

MAX_STEPS = 40


class Loop:
    """A running sum of noise: each row and the state depend on all previous steps."""

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
        """Everything that the next step depends on."""
        rows = [[r.step, r.loss, r.converged, r.phase] for r in self.rows]
        return {"sum": self.sum, "rows": rows, "random": random_states(noise=self.noise)}

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from a snapshot."""
        self.sum = saved["sum"]
        self.rows = [Step(*each) for each in saved["rows"]]
        set_random_states(saved["random"], noise=self.noise)


@cache
def truth() -> tuple[list[Step], list[torch.Tensor]]:
    """Rows and sums of an uninterrupted run; the first sum is that before any step."""
    loop = Loop()
    sums = [loop.sum.clone()]
    for _ in range(MAX_STEPS):
        loop.step()
        sums.append(loop.sum.clone())
    return loop.rows, sums


@dataclass(frozen=True)
class Plan:
    """A run.

    Args:
        path: its log.
        steps: number of steps, at most MAX_STEPS.
        every: steps between checkpoints.
        keep: steps between weights in the log.
        note: length of a text that is logged in each step.
    """

    path: Path
    steps: int
    every: int
    keep: int
    note: int = 0

    def run(self, say: Say) -> None:
        """Train to the end, from the start or resumed."""
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
                if self.note:
                    session.log.event("note", text="x" * self.note)
                if step % self.keep == 0:
                    session.log.save_weights(step, {"sum": loop.sum})
                    say("weights", step)
                session.after_step(step, loop.snapshot)
                if step % self.every == 0:
                    say("checkpoint", step)
        say("end", self.steps)


def check(run: Run, acknowledged: Mapping[str, int]) -> int:
    """Check that all acknowledged data are there and right, and the newest checkpoint is valid.

    Args:
        run: a run that has ended in any way.
        acknowledged: the last acknowledged step of rows, weights and checkpoints.

    Returns:
        The step from which the run would resume; the last step if it is finished.
    """
    rows, sums = truth()
    metrics = run.table()
    n = len(metrics["step"])
    assert n >= acknowledged.get("row", 0)
    assert not run.dropped
    for name in ("step", "loss", "converged", "phase"):
        assert metrics[name].tolist() == [getattr(each, name) for each in rows[:n]]
    step, weights = _weights(run)
    assert step >= acknowledged.get("weights", 0)
    assert step == 0 or np.array_equal(weights["sum"], sums[step])
    if run.status == "finished":
        return n
    warnings: list[str] = []
    start = find_start(run, warn=warnings.append)
    assert warnings == []
    if start is None:
        assert "checkpoint" not in acknowledged
        return 0
    assert acknowledged.get("checkpoint", 0) <= start.step <= n
    assert start.step == start.facts["rows"]["metrics"] == len(start.state["rows"])
    assert torch.equal(start.state["sum"], sums[start.step])
    return start.step


def _weights(run: Run) -> tuple[int, dict[str, Any]]:
    """Give the weights in a log, or those of step 0 if there are none; refuse damaged ones."""
    try:
        return run.weights()
    except InputError as error:
        if "without weights" not in str(error):
            raise
        return 0, {}
