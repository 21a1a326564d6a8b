"""Where the time of a run's steps goes."""

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
    """Seconds of each part of the steps so far.

    A GPU is waited for where a part begins and ends, and nowhere else. Little is lost by that:
    answers go to whoever judges, and a loss to the log, between the parts.

    Attributes:
        device: what is waited for.
        seconds: of each part.
        now: gives seconds.
    """

    device: torch.device | None = None
    seconds: dict[Part, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    now: Callable[[], float] = time.perf_counter

    @contextlib.contextmanager
    def part(self, name: Part) -> Iterator[None]:
        """While the block runs, its time is that part's."""
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
        """Each part's share of so many seconds; NaN of none."""
        return {
            f"{name}_share": spent / whole if whole else float("nan")
            for name, spent in self.seconds.items()
        }
