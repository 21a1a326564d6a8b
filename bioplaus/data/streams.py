"""What all readers of binary files need: so many bytes, and no more memory than they take."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from bioplaus.errors import InputError

DEFLATE_MAX_RATIO = 1032
"""Bytes that one compressed byte can stand for: zlib's own bound, no stream grows more."""

_CHUNK = 1 << 20


def read_exactly(stream: BinaryIO, count: int, where: object, fix: str) -> np.ndarray:
    """Read `count` bytes, [count], uint8.

    Args:
        stream: at the first of them.
        count: what the header promises.
        where: the file, as a message names it.
        fix: what to do about a file that is cut off.

    Raises:
        InputError: the stream ends earlier.
    """
    values = np.empty(count, np.uint8)
    filled = 0
    while filled < count:
        chunk = stream.read(min(_CHUNK, count - filled))
        if not chunk:
            raise InputError(
                f"{where} is truncated: {filled} of the {count} bytes promised by its header; {fix}"
            )
        values[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    return values
