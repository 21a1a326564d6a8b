"""Measure where the time of a run's steps goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

Part = Literal["decoding", "judging", "scoring", "update"]
PARTS: tuple[Part, ...] = ("decoding", "judging", "scoring", "update")


@dataclass
class Stopwatch:
    """Seconds spent in each part of the steps so far.

    The GPU is synchronised at the start and end of each part only. This costs little, because
    answers go to the judge, and a loss to the log, between parts anyway.

    Attributes:
        device: the device to synchronise.
        seconds: seconds per part.
        now: returns the time in seconds.
    """

    device: torch.device | None = None
    seconds: dict[Part, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    now: Callable[[], float] = time.perf_counter

    @contextlib.contextmanager
    def part(self, name: Part) -> Iterator[None]:
        """Within the block, time counts towards this part."""
        began = self._read()
        try:
            yield
        finally:
            self.seconds[name] += self._read() - began

    def _read(self) -> float:
        if self.device is not None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.now()

    def shares(self, whole: float) -> Mapping[str, float]:
        """The share of each part in `whole` seconds; NaN if that is zero."""
        return {
            f"{name}_share": spent / whole if whole else float("nan")
            for name, spent in self.seconds.items()
        }
