"""IDX files: a header with type and shape, then one array of numbers; plain or gzip-compressed."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from bioplaus.data.streams import DEFLATE_MAX_RATIO, read_exactly
from bioplaus.errors import InputError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Element types by their code in the header; every number in the file is big-endian."""

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DIMENSIONS = 8
_FRESH = "get a fresh copy"


def read_idx(path: Path) -> tuple[np.ndarray, str]:
    """Read an IDX file, compressed or not, as detected from its first two bytes.

    Layout: two zero bytes, a type code, the number of dimensions, each dimension as an unsigned
    32-bit integer, then the elements, last dimension fastest. The header is checked against the
    file's size before memory is allocated. At most one byte beyond the promised size is unpacked.

    Args:
        path: a regular file.

    Returns:
        The array in native byte order, and the sha256 (hexadecimal) of the unpacked file, which
        covers type, shape and elements and equals `zcat FILE | sha256sum`.

    Raises:
        InputError: the file is missing, unreadable, empty, truncated, too long, corrupt or not IDX.

    Source: LeCun, Cortes, Burges, "The MNIST database", section "The IDX file format".
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise InputError(f"{path} is empty: {_FRESH}")
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not packed:
                return _decode(path, file, limit=size)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _decode(path, cast(BinaryIO, unpacked), limit=size * DEFLATE_MAX_RATIO)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the path") from None
    except EOFError:
        raise InputError(f"{path} is truncated: its gzip stream has no end; {_FRESH}") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is corrupt ({error}): {_FRESH}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from None


def idx_header(path: Path) -> tuple[int, int] | None:
    """The type code and the number of dimensions in a file's header; None if it has no header."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            start = gzip.GzipFile(fileobj=file).read(4) if packed else file.read(4)
    except (OSError, EOFError, zlib.error):
        return None
    return (start[2], start[3]) if len(start) == 4 and start[:2] == b"\0\0" else None


def _decode(path: Path, stream: BinaryIO, limit: int) -> tuple[np.ndarray, str]:
    """Decode an unpacked stream of at most `limit` bytes."""
    start = stream.read(4)
    if len(start) < 4:
        raise InputError(f"{path} is truncated: {len(start)} bytes, no IDX header; {_FRESH}")
    if start[:2] != b"\0\0" or start[2] not in TYPES or not 1 <= start[3] <= _MAX_DIMENSIONS:
        codes = ", ".join(f"{code:02x}" for code in TYPES)
        raise InputError(
            f"{path} is not an IDX file: it starts with {start.hex(' ')}, legal is 00 00, a type "
            f"of {codes}, and 01 to {_MAX_DIMENSIONS:02x} dimensions; {_FRESH} or convert it"
        )
    dimensions = stream.read(4 * start[3])
    shape = tuple(int(n) for n in np.frombuffer(dimensions[: len(dimensions) // 4 * 4], ">u4"))
    dtype = np.dtype(TYPES[start[2]])
    promised = math.prod(shape) * dtype.itemsize
    header = start + dimensions
    if len(shape) < start[3] or len(header) + promised > limit:
        raise InputError(
            f"{path} is truncated: its header promises {list(shape)} elements of {dtype.name}, "
            f"{promised} bytes, more than the file can hold; {_FRESH}"
        )
    values = read_exactly(stream, promised, path, _FRESH)
    if stream.read(1):
        raise InputError(
            f"{path} is too long: bytes follow the {promised} that its header promises; {_FRESH}"
        )
    digest = hashlib.sha256(header)
    digest.update(values.data)
    return values.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False), (
        digest.hexdigest()
    )
