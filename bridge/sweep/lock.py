"""One sweep at a time per folder: a sweep holds a lock, which ends with its process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bridge.errors import InputError
from bridge.runlog.provenance import process_identity
from bridge.sweep.index import storage

LOCK = ".sweep.lock"
_SILENCE_SECONDS = 120.0
"""If the system has no locks, a holder on another machine is dead after so much silence."""
_BEAT_SECONDS = 20.0


class Lock:
    """A held lock of a folder; created by `locked`."""

    def __init__(self, path: Path, fd: int) -> None:
        """Take over the open file."""
        self._path, self._fd = path, fd
        self._next = 0.0

    def beat(self) -> None:
        """Show other machines that the holder is alive; costs nothing right after the last time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _BEAT_SECONDS
            with contextlib.suppress(OSError):
                os.utime(self._path)


def require_unlocked(folder: Path) -> None:
    """Refuse a folder in which a sweep is running; nothing is created or changed.

    Raises:
        InputError: a sweep is running; the message names its holder.
    """
    path = folder / LOCK
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return
    try:
        if not _taken(fd, path):
            raise _refusal(folder, path)
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Hold a folder's lock within a block; the folder is created if needed.

    Raises:
        InputError: another process holds it.
        StorageError: the disk is full or fails.
    """
    path = folder / LOCK
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    while True:
        with storage(folder):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        if not _taken(fd, path):
            os.close(fd)
            raise _refusal(folder, path)
        # The previous holder may have removed the file that was just opened.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                break
        os.close(fd)
    if os.fstat(fd).st_size and "process" not in _holder(path):
        os.close(fd)
        raise InputError(f"{path}: no lock of a sweep; move it away or give another --out")
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
    about["process"] = process_identity(os.getpid())
    try:
        with storage(folder):
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(about).encode(), 0)
        yield Lock(path, fd)
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(fd)


def _taken(fd: int, path: Path) -> bool:
    """Take the lock if it is free; if the system has no locks, trust the content of the file."""
    try:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return not _lives(path)
    return True


def _lives(path: Path) -> bool:
    about = _holder(path)
    if about.get("host") == socket.gethostname():
        pid = about.get("pid")
        found = process_identity(pid) if isinstance(pid, int) else ""
        return found == about.get("process") != "" and pid != os.getpid()
    with contextlib.suppress(OSError):
        return bool(about) and time.time() - path.stat().st_mtime < _SILENCE_SECONDS
    return False


def _holder(path: Path) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        with path.open("rb") as file:
            found = json.loads(file.read(4096))
        if isinstance(found, dict):
            return found
    return {}


def _refusal(folder: Path, path: Path) -> InputError:
    about = _holder(path)
    since = about.get("since")
    when = ""
    if isinstance(since, int | float) and 0 < since < 1e11:
        when = datetime.fromtimestamp(since).strftime(" since %Y-%m-%d %H:%M:%S")
    who = f"process {about.get('pid', 'unknown')} on {about.get('host', 'an unknown machine')}"
    return InputError(
        f"{folder}: a sweep runs here already ({who}{when}); wait for its end, or give another "
        "--out"
    )
