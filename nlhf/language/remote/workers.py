"""Work of many items on a few threads, which ends at once where one of them fails."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(
    function: Callable[[T], R],
    items: Sequence[T],
    threads: int,
    on_stop: Callable[[], None] = lambda: None,
) -> list[R]:
    """Apply a function to all items, as many at a time as there are threads.

    Where one fails, or the caller is interrupted, no other item is begun.

    Args:
        function: may be called from several threads at once.
        items: what it is applied to.
        threads: at most so many at a time, >= 1.
        on_stop: ends what is under way; called once, before the failure is raised.

    Returns:
        What it gave, in the items' order.

    Raises:
        BaseException: the first failure.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, R | None, BaseException | None]] = queue.SimpleQueue()
    stopped = threading.Event()
    for number in range(len(items)):
        waiting.put(number)

    def work() -> None:
        while not stopped.is_set():
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((number, function(items[number]), None))
            except BaseException as error:  # it is raised in the caller's thread
                done.put((number, None, error))
                return

    # daemons: a request that cannot be ended must not keep the program from ending
    for _ in range(min(threads, len(items))):
        threading.Thread(target=work, daemon=True).start()
    found: dict[int, R] = {}
    try:
        while len(found) < len(items):
            number, result, error = done.get()
            if error is not None:
                raise error
            found[number] = result  # type: ignore[assignment]
    except BaseException:
        stopped.set()
        on_stop()
        raise
    return [found[number] for number in range(len(items))]
