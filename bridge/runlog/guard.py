"""Open an untrusted HDF5 file safely: no links out of it are followed, no claims believed."""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from h5py import h5a, h5i, h5l, h5o  # type: ignore[attr-defined]
from numpy.typing import NDArray

from bridge.errors import InputError, StorageError
from bridge.runlog import superblock
from bridge.runlog.faults import reason

T = TypeVar("T")

MAX_BYTES = 4 << 30
# A log that is being written changes under the reader; its checksum reveals a torn read.
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.01
_FLETCHER32 = 3
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, MemoryError)
"""What h5py raises for files that are damaged or malformed."""


class Damaged(InputError):
    """The file's content is invalid; if the log is being written, reading it again may succeed."""


@contextmanager
def descriptor(path: Path) -> Iterator[int]:
    """Open a file for reading within a block, and give its descriptor.

    Raises:
        InputError: it cannot be read, or is no regular file: reading a pipe would block, and a
            device may have no end.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise InputError(f"{path}: cannot read this log: {error.strerror or error}") from None
    try:
        kind = os.fstat(fd).st_mode
        if stat.S_ISDIR(kind):
            raise InputError(f"{path}: a folder, no log")
        if not stat.S_ISREG(kind):
            raise InputError(f"{path}: no regular file, so no log")
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened(path: Path) -> Iterator[tuple[h5py.File, int]]:
    """Open a log for reading, whether sealed, being written, or left behind by a crash.

    Gives the HDF5 file, and a descriptor of the same file.

    Raises:
        InputError: there is no such file, or it is no log of this program.
        Damaged: HDF5 cannot read it, here or inside the block; see `patiently`.
    """
    with ExitStack() as stack:
        fd = stack.enter_context(descriptor(path))
        try:
            yield _as_hdf5(path, fd, stack), fd
        except InputError as error:
            prefix = f"{path}: "
            raise type(error)(prefix + str(error).removeprefix(prefix)) from None
        except StorageError:  # for what the block writes elsewhere
            raise
        except DAMAGE as error:
            raise Damaged(f"{path}: damaged log: {reason(error)}") from None


def patiently(
    path: Path, read: Callable[[], T], is_whole: Callable[[T], bool] = lambda _: True
) -> T:
    """Read a log that may change under the reader; retry after a torn read.

    Args:
        path: the log.
        read: opens the log, reads, and raises Damaged if a checksum is wrong.
        is_whole: tells whether the result can be complete.

    Raises:
        Damaged: every attempt failed, or nobody writes the file.
    """
    for attempt in range(_ATTEMPTS):
        before = _version(path)
        try:
            found = read()
            if is_whole(found):
                return found
        except Damaged:
            if _is_lasting(path, before, attempt):
                raise
        else:
            if _is_lasting(path, before, attempt):
                return found
        time.sleep(min(_PAUSE_SECONDS, 1e-3 * 2**attempt))
    raise AssertionError("the last attempt returns or raises")


def _is_lasting(path: Path, before: object, attempt: int) -> bool:
    """Tell whether another attempt would read the same: the file was closed all the time."""
    if attempt == _ATTEMPTS - 1:
        return True
    return before == _version(path) and not is_open_for_writing(path)


def _version(path: Path) -> object:
    """Identify the file and whether it is being written; a closed file does not change."""
    with descriptor(path) as fd:
        found = os.fstat(fd)
        writing = superblock.is_open_for_writing(os.pread(fd, superblock.SIZE, 0))
        return found.st_dev, found.st_ino, found.st_mtime_ns, writing


def is_open_for_writing(path: Path) -> bool:
    """Tell whether a log is being written, or was left open by a writer that died."""
    with descriptor(path) as fd:
        return superblock.is_open_for_writing(os.pread(fd, superblock.SIZE, 0))


def group(parent: h5py.Group, name: str) -> h5py.Group:
    """Get a group that lies in this file itself.

    Raises:
        InputError: there is none.
    """
    found = _member(parent, name)
    if not isinstance(found, h5py.Group):
        raise InputError(f"{_where(parent, name)} is no group; this is no run log")
    return found


def dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    """Get a dataset whose data lie in this file itself, with no filter except a checksum.

    Raises:
        InputError: there is none, or it has another layout.
    """
    found = _member(parent, name)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{_where(parent, name)} is no dataset; this is no run log")
    # h5py's properties and indexing are avoided: they take most of the time of reading a log.
    settings = found.id.get_create_plist()
    if settings.get_external_count() or settings.get_layout() == h5py.h5d.VIRTUAL:
        raise InputError(
            f"{_where(parent, name)} keeps its data in other files; such a log is not read"
        )
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if any(each != _FLETCHER32 for each in filters):
        raise InputError(f"{_where(parent, name)} has filters that no run log has; it is not read")
    dtype = found.id.dtype
    if dtype.hasobject or dtype.kind not in "iufbSU":
        raise InputError(f"{_where(parent, name)} has a type that no run log has; it is not read")
    return found


def check_size(found: h5py.Dataset, nbytes: int, limit: int = MAX_BYTES) -> None:
    """Refuse to read more than the file has, or more than a reader could need.

    Args:
        found: a dataset.
        nbytes: the number of bytes to be read.
        limit: the largest number that is allowed.

    Raises:
        InputError: nbytes is over the limit.
        Damaged: the file holds fewer bytes than nbytes, or its chunks are larger than the file.
    """
    stored = min(found.id.get_storage_size(), h5i.get_file_id(found.id).get_filesize())
    chunk = math.prod(found.chunks or (0,)) * found.id.dtype.itemsize
    if nbytes > limit:
        raise InputError(f"{found.name} claims {nbytes} bytes; at most {limit} are read")
    if nbytes > stored or (stored and chunk > stored):
        raise Damaged(f"{found.name} claims {nbytes} bytes, but {stored} are there")


def read_scalar(found: h5py.Dataset, limit: int) -> Any:
    """Read a single value.

    Raises:
        InputError: the dataset has another shape, or the value has more bytes than the limit.
    """
    if found.id.shape != ():
        raise InputError(f"{found.name} is no single value; this is no run log")
    check_size(found, found.id.dtype.itemsize, limit)
    value = np.empty((), found.id.dtype)
    found.id.read(h5py.h5s.ALL, h5py.h5s.ALL, value)
    return value[()]


def whole_number(parent: h5py.Group, name: str) -> int:
    """Read an attribute that is a single integer.

    Raises:
        InputError: it is missing or of another type.
    """
    place = name.encode()
    if not h5a.exists(parent.id, place):
        raise InputError(f"{parent.name} has no {name}; this is no run log")
    found = h5a.open(parent.id, place)
    if found.shape != () or found.dtype.kind not in "iu":
        raise InputError(f"{parent.name}: {name} is no whole number; this is no run log")
    value = np.empty((), found.dtype)
    found.read(value)
    return int(value)


def short_text(parent: h5py.Group, name: str) -> bytes:
    """Read an attribute that is a fixed-length text of at most 1000 bytes; "" if it is not."""
    place = name.encode()
    if not h5a.exists(parent.id, place):
        return b""
    found = h5a.open(parent.id, place)
    if found.shape != () or found.dtype.kind != "S" or found.dtype.itemsize > 1000:
        return b""
    value = np.empty((), found.dtype)
    found.read(value)
    return bytes(value[()])


def column(parent: h5py.Group, name: str, dtype: np.dtype[Any]) -> h5py.Dataset:
    """Get a column of a table.

    Raises:
        InputError: there is none, or it has another layout.
    """
    found = dataset(parent, name)
    if found.dtype != dtype or found.ndim != 1:
        raise InputError(f"{_where(parent, name)} is no column of {dtype}; this is no run log")
    return found


def read_column(
    parent: h5py.Group, name: str, dtype: np.dtype[Any], rows: int | None = None
) -> NDArray[Any]:
    """Read as much of a table's column as is readable.

    Args:
        parent: the table's group.
        name: the column.
        dtype: its required dtype.
        rows: the number of rows to read; by default all that the column has.

    Returns:
        The values, fewer than asked for if the column has fewer, or if a chunk is damaged.
    """
    found = column(parent, name, dtype)
    rows = found.shape[0] if rows is None else min(rows, found.shape[0])
    check_size(found, rows * dtype.itemsize)
    try:
        return found[:rows]
    except DAMAGE:
        return _readable_chunks(found, rows)


def stored_rows(found: h5py.Dataset) -> int:
    """Bound the rows of a column by the bytes that the file stores for it."""
    return min(found.shape[0], found.id.get_storage_size() // max(found.id.dtype.itemsize, 1))


def _readable_chunks(found: h5py.Dataset, rows: int) -> NDArray[Any]:
    """Read chunk by chunk, ignoring wrong checksums: most rows of a torn chunk are right.

    The CRCs of the rows tell which.
    """
    step = (found.chunks or (1,))[0]
    parts: list[NDArray[Any]] = [np.empty(0, found.dtype)]
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        try:
            parts.append(found[start:stop])
        except DAMAGE:
            try:
                _, raw = found.id.read_direct_chunk((start,))
                parts.append(np.frombuffer(raw, found.dtype, stop - start))
            except DAMAGE:
                break
    return np.concatenate(parts)


def _as_hdf5(path: Path, fd: int, stack: ExitStack) -> h5py.File:
    block = os.pread(fd, superblock.SIZE, 0)
    if not block.startswith(superblock.SIGNATURE[: max(len(block), 1)]):
        raise Damaged("no HDF5 file")
    if len(block) < superblock.SIZE:
        raise Damaged(f"damaged log: only {len(block)} bytes are there")
    if not superblock.is_superblock(block):
        raise InputError("an HDF5 file, but no log of this program")
    if not superblock.is_intact(block):
        raise Damaged("damaged log: its first 48 bytes are")
    if superblock.is_open_for_writing(block):
        view = stack.enter_context(superblock.ClosedView(fd, block))
        return stack.enter_context(h5py.File(view, "r"))
    # Reopened by its name, which a sealed log or the next run's may have taken meanwhile.
    file = stack.enter_context(h5py.File(path, "r"))
    if not os.path.samestat(os.fstat(fd), os.fstat(file.id.get_vfd_handle())):
        raise Damaged("another file has taken its name; read it again")
    return file


def _member(parent: h5py.Group, name: str) -> Any:
    place = name.encode()
    if place not in parent.id:
        raise InputError(f"{_where(parent, name)} is missing; this is no run log")
    if parent.id.links.get_info(place).type != h5l.TYPE_HARD:
        raise InputError(f"{_where(parent, name)} links elsewhere; such a log is not read")
    found = h5o.open(parent.id, place)
    if isinstance(found, h5py.h5d.DatasetID):
        return h5py.Dataset(found)
    return h5py.Group(found) if isinstance(found, h5py.h5g.GroupID) else found


def _where(parent: h5py.Group, name: str) -> str:
    return f"{str(parent.name).rstrip('/')}/{name}"
