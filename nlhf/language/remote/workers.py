"""Process many items on a few threads; after a failure no further item is started."""

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
    """Apply a function to all items, with as many running at once as there are threads.

    After a failure no further item is started, but running ones are awaited because they are
    already paid for. If the caller is interrupted, they are not awaited.

    Args:
        function: must be thread-safe.
        items: arguments of the function.
        threads: largest number of concurrent calls, >= 1.
        drain: prevents running calls from starting more work; called after each failure.
        stop: aborts running calls; called when the caller is interrupted.

    Returns:
        The results in the order of the items.

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
            except BaseException as error:  # raised again in the caller's thread
                with lock:
                    goes_on = False
                drain()
                done.put((number, None, error))

    # daemons: a request that cannot be aborted must not keep the program running
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
