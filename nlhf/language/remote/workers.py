"""Work of many items on a few threads, of which no more is begun where one of them fails."""

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
    *,
    drain: Callable[[], None] = lambda: None,
    stop: Callable[[], None] = lambda: None,
) -> list[R]:
    """Apply a function to all items, as many at a time as there are threads.

    Where one fails, no other is begun, and those under way are waited for: what they cost is spent.
    Where the caller is interrupted, they are not.

    Args:
        function: may be called from several threads at once.
        items: what it is applied to.
        threads: at most so many at a time, >= 1.
        drain: keeps what is under way from beginning anything more; called after each failure.
        stop: ends what is under way; called when the caller is interrupted.

    Returns:
        What it gave, in the items' order.

    Raises:
        Exception: the first failure.
    """
    done: queue.SimpleQueue[tuple[int, R | None, BaseException | None]] = queue.SimpleQueue()
    lock = threading.Lock()
    begun, goes_on = 0, True

    def work() -> None:
        nonlocal begun, goes_on
        while True:
            with lock:
                if not goes_on or begun == len(items):
                    return
                number, begun = begun, begun + 1
            try:
                done.put((number, function(items[number]), None))
            except BaseException as error:  # it is raised in the caller's thread
                with lock:
                    goes_on = False
                drain()
                done.put((number, None, error))

    # daemons: a request that cannot be ended must not keep the program from ending
    for _ in range(min(threads, len(items))):
        threading.Thread(target=work, daemon=True).start()
    found: dict[int, R | None] = {}
    failure: BaseException | None = None
    try:
        while len(found) < (len(items) if goes_on else begun):
            number, result, error = done.get()
            found[number] = result
            failure = failure or error
    except BaseException:
        with lock:
            goes_on = False
        stop()
        raise
    if failure is not None:
        raise failure
    return [found[number] for number in range(len(items))]  # type: ignore[misc]
