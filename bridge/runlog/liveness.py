"""Tell whether the process that writes a log is still running."""

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

# Runs that this process writes, by run id: the process lives, but a run may have ended badly.
open_here: set[str] = set()


def require_in_place(path: Path, fd: int) -> None:
    """Check that an open file still has its name.

    Raises:
        LogGone: it was deleted or moved, or another file has the name.
    """
    mine = os.fstat(fd)
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        how = "moved" if mine.st_nlink else "deleted"
    except OSError:
        return  # a network error, not an answer
    else:
        if os.path.samestat(mine, found):
            return
        how = "replaced by another file"
    raise LogGone(f"{path}: this log was {how} while the run wrote it")


def is_alive(meta: Mapping[str, Any], status: str, heartbeat: float) -> bool:
    """Tell whether a log is still being written.

    On the machine that writes the log the answer is certain; elsewhere a log counts as alive if its
    last heartbeat is at most two minutes old.

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
