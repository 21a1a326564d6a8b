"""Run a server of this machine in a thread, for the length of a block."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from bridge.report.loopback import Loopback

S = TypeVar("S", bound=Loopback)


@contextmanager
def serving(server: S) -> Iterator[S]:
    """Answer requests to the server; close it at the end."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
