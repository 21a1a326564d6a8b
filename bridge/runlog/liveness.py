"""Whether the process that writes a log still runs."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from bridge.runlog.provenance import process_identity

HEARTBEAT_SECONDS = 5.0
_SILENCE_SECONDS = 120.0

# Runs that this very process writes, by run id: it lives, but a run of it may have ended badly.
open_here: set[str] = set()


def is_alive(meta: Mapping[str, Any], status: str, heartbeat: float) -> bool:
    """Tell whether a log is still being written.

    On the machine that writes it the answer is sure; elsewhere a heartbeat of the last two
    minutes counts as life.

    Args:
        meta: the log's facts.
        status: its newest status.
        heartbeat: when that was written, in seconds since 1970.
    """
    if status != "running":
        return meta["run_id"] in open_here
    if meta["host"] != socket.gethostname():
        return time.time() - heartbeat < _SILENCE_SECONDS
    if meta["pid"] == os.getpid():
        return meta["run_id"] in open_here
    return process_identity(int(meta["pid"])) == meta["process"] != ""
