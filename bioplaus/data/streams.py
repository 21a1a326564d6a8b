"""Read a given number of bytes without allocating more memory than they take."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from bioplaus.errors import InputError

DEFLATE_MAX_RATIO = 1032
"""The largest number of bytes from one compressed byte: zlib's own bound."""

_CHUNK = 1 << 20


def read_exactly(stream: BinaryIO, count: int, where: object, fix: str) -> np.ndarray:
    """Read `count` bytes, [count], uint8.

    Args:
        stream: a stream positioned at the first byte.
        count: number of bytes that the header promises.
        where: name of the file in messages.
        fix: what to do about a truncated file.

    Raises:
        InputError: the stream ends too early.
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
