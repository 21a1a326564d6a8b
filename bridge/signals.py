"""Signals that ask a run to stop cleanly: they are noted, and the current step is finished."""

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
"""Requests to end, Ctrl-C, a terminal that closes, and what schedulers send before a limit."""


@contextlib.contextmanager
def noted(
    on_note: Callable[[int, dict[int, Any]], None] = lambda number, before: None,
    restore: bool = True,
    signals: Iterable[int] = STOPPING,
) -> Iterator[list[int]]:
    """Within the block, note signals in a list instead of being ended by them.

    Signals that are ignored, as under nohup or in a shell's background jobs, stay ignored.

    Args:
        on_note: called for each signal, with the handlers that were set before.
        restore: reinstall those handlers at the end.
        signals: the signals to note.
    """
    found: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    # a handler set by C code cannot be restored from here
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
