"""Read a file that HDF5 regards as open for writing: it is, or its writer was killed.

HDF5's own way is `swmr=True`, which repeats a read until its checksum is right: on a damaged file
it never returns. Here the first 48 bytes are replaced by those of a closed file, everything else is
read from the disk unchanged, and a wrong checksum is an error at once.

Source: HDF5 File Format Specification 3.0, section II.A (superblock version 3).
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SIZE = 48
_VERSION_AND_SIZES = b"\x03\x08\x08"
_FLAGS = 11
_WRITING = 0b101
_END = 28
_MASK = 0xFFFFFFFF


def is_superblock(block: bytes) -> bool:
    """Tell whether a file begins as every log does: superblock 3, 8-byte addresses."""
    return len(block) == SIZE and block[:_FLAGS] == SIGNATURE + _VERSION_AND_SIZES


def is_intact(block: bytes) -> bool:
    """Tell whether the superblock's checksum is right."""
    return lookup3(block[:-4]) == struct.unpack("<I", block[-4:])[0]


def is_open_for_writing(block: bytes) -> bool:
    """Tell whether the superblock marks the file as being written; its writer may have died."""
    return len(block) == SIZE and bool(block[_FLAGS] & _WRITING)


def end(block: bytes) -> int:
    """Give the minimum size of the closed file."""
    return struct.unpack("<Q", block[_END : _END + 8])[0]


def closed(block: bytes, size: int) -> bytes:
    """Give the superblock of the file as if it had been closed at that size."""
    new = bytearray(block)
    new[_FLAGS] = 0
    new[_END : _END + 8] = struct.pack("<Q", size)
    new[-4:] = struct.pack("<I", lookup3(bytes(new[:-4])))
    return bytes(new)


class ClosedView(io.RawIOBase):
    """A file as it would be if it were closed now; for h5py.File(view, "r")."""

    def __init__(self, file: Path | int, block: bytes) -> None:
        """Open the file.

        Args:
            file: the file, or a descriptor of it.
            block: its superblock, undamaged.
        """
        super().__init__()
        self._fd = os.dup(file) if isinstance(file, int) else os.open(file, os.O_RDONLY)
        self._size = os.fstat(self._fd).st_size
        self._head = closed(block, self._size)
        self._at = 0

    def readable(self) -> bool:
        """Return True: it is readable."""
        return True

    def seekable(self) -> bool:
        """Return True: it is seekable."""
        return True

    def tell(self) -> int:
        """Give the position of the next read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position; the end is where it was at opening."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; past the end with zeros, which no checksum accepts as data."""
        view = memoryview(buffer).cast("B")
        data = os.pread(self._fd, len(view), self._at)
        view[: len(data)] = data
        view[len(data) :] = bytes(len(view) - len(data))
        if self._at < SIZE:
            head = self._head[self._at : self._at + len(view)]
            view[: len(head)] = head
        self._at += len(view)
        return len(view)

    def close(self) -> None:
        """Close it; closing again does nothing."""
        if not self.closed:
            os.close(self._fd)
        super().close()


def lookup3(data: bytes) -> int:
    """Hash bytes as HDF5's metadata checksums do: lookup3's hashlittle from 0.

    Source: Bob Jenkins, lookup3.c (public domain), May 2006.
    """
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    if not data:
        return c
    words = struct.unpack(f"<{-(-len(data) // 12) * 3}I", data + bytes(-len(data) % 12))
    for i in range(0, len(words) - 3, 3):
        a, b, c = _mix(*(x + w & _MASK for x, w in zip((a, b, c), words[i : i + 3], strict=True)))
    return _finish(*(x + w & _MASK for x, w in zip((a, b, c), words[-3:], strict=True)))


def _rotate(x: int, k: int) -> int:
    return (x << k | x >> (32 - k)) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for k in (4, 6, 8, 16, 19, 4):
        # One line of lookup3.c: a -= c; a ^= rot(c, k); c += b; then rotate the names a, b, c.
        new_a = (a - c & _MASK) ^ _rotate(c, k)
        new_c = c + b & _MASK
        a, b, c = b, new_c, new_a
    return a, b, c


def _finish(a: int, b: int, c: int) -> int:
    for k in (14, 11, 25, 16, 4, 14, 24):
        # c ^= b; c -= rot(b, k); then rotate the names a, b, c.
        new_c = ((c ^ b) - _rotate(b, k)) & _MASK
        a, b, c = b, new_c, a
    return b
