"""When something that does not happen every step is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.errors import InputError


@dataclass
class Every:
    """Due every so many steps, seconds or epochs; give exactly one of the three.

    Steps and epochs need no memory, so that a resumed run does the same things at the same
    steps. Seconds count from the last time it was due, at first from its making.

    Args:
        steps: whole number >= 1.
        seconds: > 0.
        epochs: > 0, a fraction is allowed; needs `steps_per_epoch`.
        steps_per_epoch: whole number >= 1.
        clock: gives the time in seconds.

    Raises:
        InputError: none or several are given, or one is outside its range.
    """

    steps: int | None = None
    seconds: float | None = None
    epochs: float | None = None
    steps_per_epoch: int | None = None
    clock: Callable[[], float] = time.monotonic
    _last: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given = [v for v in (self.steps, self.seconds, self.epochs) if v is not None]
        if len(given) != 1:
            raise InputError("give exactly one of steps, seconds and epochs")
        if not given[0] > 0:
            raise InputError(f"every {given[0]} is never; use a number > 0")
        if self.epochs is not None and not self.steps_per_epoch:
            raise InputError("epochs need steps_per_epoch >= 1")
        self._last = self.clock()

    def due(self, step: int, advanced: int = 1) -> bool:
        """Tell whether it is due after `step` steps.

        Args:
            step: steps finished since the beginning of the run.
            advanced: how many of them since the last question; a multiple of the period among
                them makes it due.
        """
        if self.seconds is not None:
            now = self.clock()
            if now - self._last < self.seconds:
                return False
            self._last = now
            return True
        period = self.steps
        if period is None:
            assert self.epochs is not None
            assert self.steps_per_epoch is not None
            period = max(round(self.epochs * self.steps_per_epoch), 1)
        return step // period > (step - advanced) // period
