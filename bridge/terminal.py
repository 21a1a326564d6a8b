"""Takes over stdout and stderr: whatever happens to them, the program goes on.

`own` replaces Python's streams by ones that never raise. A missing stream leads to the null device.
A stream that nobody reads any more, or whose disk is full, drops its text. A character that the
encoding lacks becomes an escape. If part of a command's result was lost, this is remembered for the
exit code: see `loss`.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.ENXIO, errno.ESHUTDOWN)
"""Errors after a reader, or a terminal, has gone away."""
_PIECE = 512  # bytes that POSIX lets a pipe accept at once when it reports ready
_PATIENCE = 1.0  # seconds that a run waits for a reader that has stopped reading

_owned: dict[str, _Stream] = {}
_kept: dict[str, Any] = {}
_missing: set[int] = set()
"""Standard descriptors that were closed from the start."""


class _Raw(io.RawIOBase):
    """A file descriptor that accepts everything, and does not report what it could not write."""

    def __init__(self, fd: int, mode: int) -> None:
        super().__init__()
        self._fd = fd
        # A full disk stays full; a pipe and a terminal have a reader, who may only have paused.
        self._has_reader = not (stat.S_ISREG(mode) or stat.S_ISBLK(mode))
        self._stalled = False
        self.waits = True
        self.used = False
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return self.error is None and os.isatty(self._fd)

    def write(self, data: Any) -> int:
        whole = memoryview(data).cast("B")
        rest = whole
        self.used = self.used or bool(len(whole))
        while len(rest) and self.error is None and self._ready():
            try:
                rest = rest[os.write(self._fd, rest if self.waits else rest[:_PIECE]) :]
            except BlockingIOError:
                select.select((), (self._fd,), (), None if self.waits else _PATIENCE)
            except OSError as error:
                self.error = error
        return len(whole)

    def _ready(self) -> bool:
        """Whether the reader accepts more; if the run does not wait for it, text is dropped."""
        if self.waits or not self._has_reader or not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        self._stalled = not poll.poll(0 if self._stalled else 1000 * _PATIENCE)
        return not self._stalled


class _Through(io.BufferedIOBase):
    """Unbuffered bytes to a descriptor, so that a Ctrl-C during a write cannot repeat them."""

    def __init__(self, raw: _Raw) -> None:
        self._raw = raw
        self.name = raw.fileno()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any) -> int:
        return self._raw.write(data)


class _Stream(io.TextIOWrapper):
    """A text stream on such a descriptor."""

    def __init__(self, raw: _Raw, encoding: str) -> None:
        super().__init__(
            _Through(raw),
            encoding=encoding,
            errors="backslashreplace",
            line_buffering=raw.isatty(),
        )
        self.raw = raw


class _Ascii(_Stream):
    """A stream with ASCII encoding; given a buffer below it, click would write UTF-8 there."""

    @property
    def buffer(self) -> Any:  # type: ignore[override]
        raise AttributeError("buffer")


def own() -> None:
    """Replace stdout and stderr by streams that never raise; once per process.

    A closed standard descriptor is opened on the null device first. Otherwise a file that the
    program opens later would get its number, and with it the text meant for the terminal. Streams
    that someone else has installed, as tests do, stay.
    """
    _kept.clear()
    for fd in (0, 1, 2):
        _fill(fd)
    for fd, name in ((1, "stdout"), (2, "stderr")):
        stream: TextIO | None = getattr(sys, name)
        if name in _owned or stream is not getattr(sys, f"__{name}__"):
            continue
        encoding = "utf-8"
        if stream is not None:
            encoding = stream.encoding or encoding
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        kind = _Ascii if codecs.lookup(encoding).name == "ascii" else _Stream
        _owned[name] = kind(_Raw(fd, os.fstat(fd).st_mode), encoding)
        setattr(sys, name, _owned[name])
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115 (stays open as long as the process)


def kept_in(log: Path) -> None:
    """Note that a log holds the result too, so that losing the printed one is no failure."""
    _kept["log"] = log


def require() -> None:
    """Note that the output was asked for, as by --json, whether or not a log holds it."""
    _kept["required"] = True


def loss() -> tuple[str, bool]:
    """Give the system's error if what was written to stdout could not be stored.

    A reader that has gone away, such as `head`, has read what it wanted: that is no loss. Nor is a
    stdout that was closed from the start, unless the output has no other place.

    Returns:
        The reason and where else the result is, "" if nothing was lost; and whether the command's
            result was lost.
    """
    stream = _owned.get("stdout")
    if stream is None or sys.stdout is not stream:
        return "", False
    stream.flush()
    error, log = stream.raw.error, _kept.get("log")
    required = log is None or "required" in _kept
    if 1 in _missing and stream.raw.used and required:
        error = OSError(errno.EBADF, "it is closed")
    if error is None or error.errno in _GONE:
        return "", False
    where = f"{log} has all of it" if log else "it is lost"
    return f"{error.strerror or error}; {where}", required


def flush() -> None:
    """Write what is still in the streams' buffers."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


@contextlib.contextmanager
def unwaiting() -> Iterator[None]:
    """Within the block, drop text that a paused reader, such as a pager, does not accept.

    A run must not stop because a screen does. Its log has everything.
    """
    for stream in _owned.values():
        stream.raw.waits = False
    try:
        yield
    finally:
        flush()
        for stream in _owned.values():
            stream.raw.waits = True


def _fill(fd: int) -> None:
    try:
        os.fstat(fd)
    except OSError:
        _missing.add(fd)
        found = os.open(os.devnull, os.O_RDWR)
        if found != fd:
            os.dup2(found, fd)
            os.close(found)
