"""Logs with a headline, for the tests of lists, comparisons and pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.headline import Headline
from bridge.runlog import open_run

HEADLINE = Headline(metric="epochs/error", unit="%", label="test error", over="epoch")


@dataclass(frozen=True)
class Batch:
    """One update: the error on its own rows."""

    step: int
    error: float


@dataclass(frozen=True)
class Pass:
    """One epoch; the headline is neither its first number nor in the first table."""

    step: int
    epoch: int
    seconds: float
    error: float


def judged_log(
    path: Path,
    errors: Sequence[float],
    *,
    seed: int = 0,
    rate: float = 0.1,
    headline: Headline | None = HEADLINE,
    command: str = "cli.py eqprop-run",
    **config: Any,
) -> Path:
    """A log of epochs of ten updates each, whose final errors are given."""
    with open_run(
        path,
        tables={"metrics": Batch, "epochs": Pass},
        config={"optimizer": {"rate": rate}, "seed": seed, **config},
        seed=seed,
        command=command,
        headline=headline,
    ) as log:
        for epoch, error in enumerate(errors, 1):
            for step in range(10 * epoch - 9, 10 * epoch + 1):
                log.log("metrics", Batch(step, 50.0))
            log.log("epochs", Pass(10 * epoch, epoch, 0.25, error))
    return path
