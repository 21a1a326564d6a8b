"""The rows of a growing log in the order in which they were written, append-only.

HDF5 changes headers, indices and chunks in place. After a power cut any part of what was not forced
to the disk may be missing: a header may be there without the page that it points to, or only half
of an index. Rows that were forced long ago could then not be found. So each row first goes into a
journal. The journal lies inside the same file, in segments that HDF5 has allocated and never
touches again, and is append-only. What was forced to it survives a power cut, and its checksums
identify it. The datasets of a table are filled from the journal, for other programs.

A segment is a head (magic, number, tables, own address, address of the next segment, rows of each
table before it, CRC-32), followed by records. A record is a CRC-32, the number of its table and the
packed row. A record's CRC is the row's CRC, continued over the number of its segment, the number of
its table and the run's id, so that no other record is valid in its place.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import h5py

from bridge.runlog import guard
from bridge.runlog.reserve import Reserve
from bridge.runlog.schema import TableSchema

GROUP = "journal"
_MAGIC = b"rowslog1"
_PAGE = 4096
_SEGMENT = 16 * _PAGE
_HEAD = struct.Struct("<8sQQQQ")  # magic, number, tables, own address, next address
RECORD = struct.Struct("<IH")
_CRC = struct.Struct("<I")
_MAX_SEGMENT = 1 << 26
_LAST_WORDS = _PAGE
"""Bytes of a segment for the log's own tables, to record the run's end even on a full disk."""


@dataclass(frozen=True)
class Place:
    """The position of a journal in the file, with its run and tables.

    Args:
        start: address of the first segment.
        size: bytes of a segment.
        run_id: of the run.
        sizes: bytes of a packed row, by the number of its table.
    """

    start: int
    size: int
    run_id: str
    sizes: tuple[int, ...]

    @property
    def head_size(self) -> int:
        """Number of bytes before a segment's first record."""
        return _HEAD.size + 8 * len(self.sizes) + _CRC.size

    def head(self, number: int, address: int, after: int, rows: Sequence[int]) -> bytes:
        """Build a segment's head."""
        head = _HEAD.pack(_MAGIC, number, len(self.sizes), address, after)
        head += struct.pack(f"<{len(rows)}Q", *rows)
        return head + _CRC.pack(zlib.crc32(head, zlib.crc32(self.run_id.encode())))

    def marks(self, number: int) -> list[bytes]:
        """Give the bytes that continue a record's CRC, by the number of its table."""
        run = self.run_id.encode()
        return [struct.pack("<QH", number, table) + run for table in range(len(self.sizes))]


def first_segment(schemas: Sequence[TableSchema]) -> int:
    """Compute the size in bytes of the two segments that a journal begins with."""
    largest = max(schema.packing.size for schema in schemas)
    return max(_SEGMENT, -(-4 * (largest + 8 * len(schemas)) // _PAGE) * _PAGE)


def create_journal(file: h5py.File, schemas: Sequence[TableSchema]) -> None:
    """Allocate the first two segments of a journal.

    Args:
        file: the file that receives the group.
        schemas: of all tables, in the order of their numbers.
    """
    size = first_segment(schemas)
    group = file.create_group(GROUP)
    group.attrs["NX_class"] = "NXcollection"
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((size,))
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((2 * size,), (h5py.h5s.UNLIMITED,))
    found = h5py.h5d.create(group.id, b"segments", h5py.h5t.STD_U8LE, space, settings)
    group.attrs["start"] = _address(found, 0)
    group.attrs["size"] = size


class Journal:
    """Appends records; a record that `append` has written survives a kill of the process."""

    def __init__(
        self, file: h5py.File, schemas: Sequence[TableSchema], run_id: str, reserve: Reserve
    ) -> None:
        """Begin the journal that `create_journal` has allocated."""
        group = guard.group(file, GROUP)
        sizes = tuple(schema.packing.size for schema in schemas)
        start, size = (guard.whole_number(group, name) for name in ("start", "size"))
        self.place = Place(start, size, run_id, sizes)
        self._segments = guard.dataset(group, "segments").id
        self._fd = file.id.get_vfd_handle()
        self._reserve = reserve
        self._rows = [0] * len(sizes)
        self._number = -1
        self._after = start
        self._full = False
        self._begin()

    def append(self, table: int, packed: bytes | bytearray, row_crc: int) -> None:
        """Append a row.

        Args:
            table: number of its table.
            packed: the packed row.
            row_crc: its CRC-32.

        Raises:
            OSError: the disk is full or fails.
        """
        own = table >= len(self.place.sizes) - 2
        limit = self._end if own and self._full else self._end - _LAST_WORDS
        if self._at + RECORD.size + len(packed) > limit:
            self._begin()
        crc = zlib.crc32(self._marks[table], row_crc)
        self._write(RECORD.pack(crc, table) + packed, self._at)
        self._at += RECORD.size + len(packed)
        self._rows[table] += 1

    def append_all(self, table: int, packed: bytes, row_crcs: Sequence[int]) -> None:
        """Append many rows with few writes, in the order in which they are packed."""
        size, done = self.place.sizes[table], 0
        while done < len(row_crcs):
            fit = (self._end - _LAST_WORDS - self._at) // (RECORD.size + size)
            if not fit:
                self._begin()
                continue
            mark, records = self._marks[table], bytearray()
            for row, crc in enumerate(row_crcs[done : done + fit], done):
                records += RECORD.pack(zlib.crc32(mark, crc), table)
                records += packed[row * size : (row + 1) * size]
            self._write(records, self._at)
            self._at += len(records)
            count = min(fit, len(row_crcs) - done)
            self._rows[table] += count
            done += count

    def _begin(self) -> None:
        """Begin the next segment, and allocate the one after it."""
        self._full = True
        self._reserve.hold(2 * self.place.size)
        address, number = self._after, self._number + 1
        if number:
            self._segments.set_extent(((number + 2) * self.place.size,))
        after = _address(self._segments, (number + 1) * self.place.size)
        head = self.place.head(number, address, after, self._rows)
        self._write(head, address)
        self._number, self._after = number, after
        self._at, self._end = address + len(head), address + self.place.size
        self._marks = self.place.marks(number)
        self._full = False

    def _write(self, data: bytes | bytearray, at: int) -> None:
        if os.pwrite(self._fd, data, at) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _address(found: h5py.h5d.DatasetID, offset: int) -> int:
    return found.get_chunk_info_by_coord((offset,)).byte_offset


@dataclass(frozen=True)
class Segment:
    """A segment of a journal with a valid head.

    Args:
        number: counted from 0.
        address: its position in the file.
        before: rows of each table in the segments before it.
    """

    number: int
    address: int
    before: tuple[int, ...]


def find_journal(
    file: h5py.File, run_id: str, schemas: Sequence[TableSchema], nbytes: int
) -> Place | None:
    """Find the position of a log's journal; None if it has none, like a sealed log.

    Args:
        file: the log.
        run_id: of its run.
        schemas: of all tables, in the order of their numbers.
        nbytes: size of the file.
    """
    if file.get(GROUP, getlink=True) is None:
        return None
    group = guard.group(file, GROUP)
    start, size = (guard.whole_number(group, name) for name in ("start", "size"))
    sizes = tuple(schema.packing.size for schema in schemas)
    place = Place(start, size, run_id, sizes)
    if not 0 < start < nbytes or not place.head_size < size <= _MAX_SEGMENT:
        raise guard.Damaged(f"damaged log: /{GROUP}")
    return place


def segments(fd: int, place: Place) -> Iterator[Segment]:
    """Follow the heads from segment to segment, up to the first that is invalid.

    Args:
        fd: the file, open for reading.
        place: the position of the journal.
    """
    address, number = place.start, 0
    nbytes = os.fstat(fd).st_size
    while number <= nbytes // place.size:
        head = os.pread(fd, place.head_size, address)
        if len(head) < place.head_size:
            return
        after = _HEAD.unpack_from(head)[4]
        before = struct.unpack_from(f"<{len(place.sizes)}Q", head, _HEAD.size)
        if head != place.head(number, address, after, before) or after >= 1 << 63:
            return
        yield Segment(number, address, before)
        address, number = after, number + 1
