"""Whether the process that writes a log still runs."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.errors import LogGone
from bridge.runlog.provenance import process_identity

HEARTBEAT_SECONDS = 5.0
_SILENCE_SECONDS = 120.0

# Runs that this very process writes, by run id: it lives, but a run of it may have ended badly.
open_here: set[str] = set()


def require_in_place(path: Path, fd: int) -> None:
    """Make sure that an open file still has its name.

    Raises:
        LogGone: it was deleted or moved, or another file has the name.
    """
    mine = os.fstat(fd)
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        how = "moved" if mine.st_nlink else "deleted"
    except OSError:
        return  # a network's trouble, not an answer
    else:
        if os.path.samestat(mine, found):
            return
        how = "replaced by another file"
    raise LogGone(f"{path}: this log was {how} while the run wrote it")


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
