"""numpy's files: one array, or a zip archive of several; nothing is unpickled."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from bioplaus.data.streams import DEFLATE_MAX_RATIO, read_exactly
from bioplaus.errors import InputError

_FRESH = "get a fresh copy, or save it again"


def read_npy(path: Path) -> np.ndarray:
    """Read a .npy file.

    Raises:
        InputError: it cannot be read, is damaged, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            return _decode(str(path), file, path.stat().st_size)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a .npz file.

    Raises:
        InputError: it cannot be read, is damaged, or holds Python objects.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.filename.endswith(".npy"):
                    continue
                name = info.filename.removesuffix(".npy")
                limit = min(info.file_size, info.compress_size * DEFLATE_MAX_RATIO)
                with archive.open(info) as stream:
                    where = f"{path} ({name[:60]!r})"
                    arrays[name] = _decode(where, cast(BinaryIO, stream), limit)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is corrupt or truncated ({reason}): {_FRESH}") from None
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or with unknown compression
        raise InputError(f"{path} cannot be unpacked ({error}): save it with numpy.savez") from None
    except OSError as error:
        reason = error.strerror or "it is damaged"
        raise InputError(f"{path} cannot be read ({reason}): check the path") from None
    return arrays


def _decode(where: str, stream: BinaryIO, limit: int) -> np.ndarray:
    """Decode one array from a stream of at most `limit` bytes."""
    fmt = np.lib.format
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # for headers written by Python 2
            version = fmt.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise InputError(
                    f"{where} has fields with names, version {version}: save plain arrays"
                )
            read = fmt.read_array_header_1_0 if version[0] == 1 else fmt.read_array_header_2_0
            shape, by_columns, dtype = read(stream)
    except ValueError as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{where} is no array of numpy ({reason}): {_FRESH}") from None
    if dtype.hasobject:
        raise InputError(
            f"{where} holds Python objects: a pickle, which can run code when it is read; save it "
            "as an array of numbers"
        )
    count = math.prod(shape) * dtype.itemsize
    if any(n < 0 for n in shape) or count > limit:
        raise InputError(
            f"{where} is truncated: its header promises {list(shape)} elements of {dtype}, {count} "
            f"bytes, more than the file can hold; {_FRESH}"
        )
    values = read_exactly(stream, count, where, _FRESH)
    stream.read(1)  # makes the zip archive verify its checksum
    array = values.view(dtype) if count else np.empty(0, dtype)
    array = array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("="), copy=False))
