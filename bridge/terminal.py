"""The one owner of stdout and stderr: whatever happens to them, the program goes on.

`own` puts streams in the place of Python's that never raise. One that is missing leads to the null
device; one that nobody reads any more, or whose disk is full, swallows what it is given; a
character that its encoding lacks becomes an escape. What was lost of a command's result is
remembered, for its exit code: see `loss`.
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
"""What a reader, or a terminal, that has gone away leaves behind."""
_PIECE = 512  # what POSIX lets a pipe that says it is ready take at once
_PATIENCE = 1.0  # seconds that a run waits for a reader that has stopped reading

_owned: dict[str, _Stream] = {}
_kept: dict[str, Any] = {}
_missing: set[int] = set()
"""Standard descriptors that were closed from the start."""


class _Raw(io.RawIOBase):
    """A file descriptor that takes everything, and says nothing of what it could not pass on."""

    def __init__(self, fd: int, mode: int) -> None:
        super().__init__()
        self._fd = fd
        # A disk is full for good; a pipe and a terminal have a reader, who may pause.
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
        """Whether a reader takes more; where the run does not wait for it, text is left out."""
        if self.waits or not self._has_reader or not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        self._stalled = not poll.poll(0 if self._stalled else 1000 * _PATIENCE)
        return not self._stalled


class _Through(io.BufferedIOBase):
    """Bytes straight to a descriptor: a Ctrl-C while they go must not have them go twice."""

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
    """One whose encoding is ASCII; where click sees a buffer below such, it writes UTF-8 there."""

    @property
    def buffer(self) -> Any:  # type: ignore[override]
        raise AttributeError("buffer")


def own() -> None:
    """Put streams that never raise in the place of stdout and stderr; once a process.

    A standard descriptor that is closed is opened on the null device first, so that no file that
    the program opens later gets its number, and with it what is meant for the terminal. Streams
    that someone else has put there, as tests do, stay.
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
    """Note that a log has the result too: that a full disk takes what is printed is no failure."""
    _kept["log"] = log


def require() -> None:
    """Note that what is printed was asked for, in a log or not, as by --json."""
    _kept["required"] = True


def loss() -> tuple[str, bool]:
    """What the system said when it refused to store what was written to stdout.

    A reader that has gone away, as `head` does, has had what it wanted: that is no loss. Nor is a
    stdout that was closed from the start, but for what has no other place.

    Returns:
        Why, and where the result is besides, "" if nothing was lost; and whether it was the
        command's result.
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
    """Pass on what is still in the streams' buffers."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


@contextlib.contextmanager
def unwaiting() -> Iterator[None]:
    """Within the block leave out text that a stopped reader does not take, as a pager's.

    A run must not stand still because a screen does. Its log has everything.
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
