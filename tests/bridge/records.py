"""Records and logs for the tests of the run log; without torch, so that forks are cheap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bridge.runlog import RunLog, open_run

WEIGHTS = {"forward.0": np.zeros((7, 5), np.float32), "bias": np.zeros(3)}


@dataclass(frozen=True)
class Step:
    """One column of each kind."""

    step: int
    loss: float
    converged: bool
    phase: Literal["free", "nudged"]


@dataclass(frozen=True)
class Epoch:
    """A second table."""

    step: int
    epoch: int
    error: float


def row(step: int) -> Step:
    """The row of a step."""
    return Step(step, step / 3, step % 3 == 0, "nudged" if step % 2 else "free")


def weights_of(step: int) -> dict[str, np.ndarray]:
    """The weights of a step."""
    return {name: np.full_like(tensor, step) for name, tensor in WEIGHTS.items()}


def new_log(path: Path, **options: Any) -> RunLog:
    """A log of Step and Epoch with room for weights."""
    settings: Mapping[str, Any] = {
        "tables": {"metrics": Step, "epochs": Epoch},
        "config": {"epochs": 3},
        "seed": 7,
        "weights": WEIGHTS,
    }
    return open_run(path, **{**settings, **options})


def sealed_log(path: Path, rows: int = 20) -> Path:
    """A log of a finished run."""
    with new_log(path) as log:
        for step in range(rows):
            log.log("metrics", row(step))
        log.log("epochs", Epoch(rows, 1, 2.5))
        log.save_weights(rows, weights_of(rows))
        log.event("note", text="all well")
    return path
