"""Signals that ask a run to stop in good order: they are noted, and the step is finished first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
"""A request to end, Ctrl-C, a terminal that closes, what schedulers send before a limit."""


@contextlib.contextmanager
def noted(
    on_note: Callable[[int, dict[int, Any]], None] = lambda number, before: None,
    restore: bool = True,
    signals: Iterable[int] = STOPPING,
) -> Iterator[list[int]]:
    """Within the block note signals in a list, instead of being ended by them.

    What is ignored, as by nohup or a shell's background jobs, stays so.

    Args:
        on_note: told of each, with the handlers that were there before.
        restore: put those back at the end.
        signals: which.
    """
    found: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    # what C code has set cannot be put back from here
    before = {n: signal.getsignal(n) or signal.SIG_DFL for n in signals}

    def note(number: int, frame: FrameType | None) -> None:
        found.append(number)
        on_note(number, before)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield found
    finally:
        for number, handler in before.items() if restore else ():
            signal.signal(number, handler)
