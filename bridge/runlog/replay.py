"""Read a journal: the rows of a growing log, or of one that a crash left behind."""

from __future__ import annotations

import os
import zlib
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from bridge.runlog import guard
from bridge.runlog.journal import RECORD, Place, Segment, segments


@dataclass
class Rows:
    """Consecutive rows of a table.

    Args:
        first: number of the first row.
        packed: all rows, packed.
        crcs: one per row.
    """

    first: int
    packed: bytearray = field(default_factory=bytearray, repr=False)
    crcs: array[int] = field(default_factory=lambda: array("I"), repr=False)

    @property
    def end(self) -> int:
        """Number of the row after the last one."""
        return self.first + len(self.crcs)

    def part(self, start: int, end: int, size: int) -> Rows:
        """Give the rows with these numbers, as far as they are here.

        Args:
            start: number of the first row.
            end: number after the last row.
            size: bytes of a packed row.
        """
        first, last = max(start - self.first, 0), max(end - self.first, 0)
        packed = self.packed[first * size : last * size]
        return Rows(self.first + first, packed, self.crcs[first:last])

    def add(self, more: Rows) -> None:
        """Append more rows, which must follow directly."""
        self.packed += more.packed
        self.crcs += more.crcs


def rows_of(fd: int, place: Place, segment: Segment) -> list[list[Rows]]:
    """Read a segment: the rows by number of their table, in one piece if nothing is damaged.

    Damaged rows are left out; undamaged rows after them in the segment are found again.
    """
    data = os.pread(fd, place.size, segment.address)
    end = len(data.rstrip(b"\0"))
    # A packed row may end in zeros.
    data = memoryview(data[:end] + bytes(max(place.sizes) + RECORD.size))
    sizes, marks, head = place.sizes, place.marks(segment.number), RECORD.size
    unpack, crc32 = RECORD.unpack_from, zlib.crc32
    found: list[tuple[list[memoryview], list[int]]] = [([], []) for _ in sizes]
    at = place.head_size
    while at < end:
        crc, table = unpack(data, at)
        if table < len(sizes):
            stop = at + head + sizes[table]
            packed = data[at + head : stop]
            row_crc = crc32(packed)
            if crc32(marks[table], row_crc) == crc:
                rows, crcs = found[table]
                rows.append(packed)
                crcs.append(row_crc)
                at = stop
                continue
        at += 1
    return [_pieces(*each, size) for each, size in zip(found, sizes, strict=True)]


def _pieces(rows: list[memoryview], crcs: list[int], size: int) -> list[Rows]:
    """Split rows where one is missing."""
    packed = b"".join(rows)
    numbers = np.ndarray(len(rows), "<u8", packed, strides=(size,)) if rows else np.empty(0, "<u8")
    cuts = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(rows)]
    return [
        Rows(int(numbers[a]), bytearray(packed[a * size : b * size]), array("I", crcs[a:b]))
        for a, b in pairwise(cuts)
        if a < b
    ]


def read_rows(fd: int, place: Place) -> list[list[Rows]]:
    """Read a journal.

    Args:
        fd: the file, open for reading.
        place: the position of the journal.

    Returns:
        The rows by number of their table; in one piece if nothing is damaged.
    """
    found: list[list[Rows]] = [[] for _ in place.sizes]
    for segment in segments(fd, place):
        for table, new in enumerate(rows_of(fd, place, segment)):
            pieces = found[table]
            for each in new:
                if not pieces or each.first > pieces[-1].end:
                    pieces.append(each)
                else:
                    pieces[-1].add(each.part(pieces[-1].end, each.end, place.sizes[table]))
    return found


class Replay:
    """A journal at a given moment, of which any rows can be read; nothing is kept in memory."""

    def __init__(self, fd: int, place: Place) -> None:
        """Find the positions of the rows.

        Args:
            fd: the file, open for reading; it must stay open as long as this is used.
            place: the position of the journal.

        Raises:
            Damaged: there is no segment.
        """
        self._fd, self._place = fd, place
        self._segments = list(segments(fd, place))
        if not self._segments:
            raise guard.Damaged("damaged log: /journal")
        last = self._segments[-1]
        newest = rows_of(fd, place, last)
        self.rows = [
            pieces[0].end if pieces and pieces[0].first == before else before
            for pieces, before in zip(newest, last.before, strict=True)
        ]
        """Number of rows of each table."""
        self._befores = [[s.before[t] for s in self._segments] for t in range(len(place.sizes))]

    def read(self, table: int, start: int, end: int) -> Rows:
        """Read some rows and verify each.

        Args:
            table: number of the table.
            start: number of the first row.
            end: number after the last row.

        Raises:
            Damaged: a row cannot be read.
        """
        found, before = Rows(start), self._befores[table]
        at = max(bisect_right(before, start) - 1, 0)
        while found.end < end:
            if at == len(self._segments) or before[at] > found.end:
                raise guard.Damaged(f"damaged log: row {found.end}")
            for each in rows_of(self._fd, self._place, self._segments[at])[table]:
                if each.first <= found.end < each.end:
                    found.add(each.part(found.end, end, self._place.sizes[table]))
            at += 1
        return found

    def verify(self) -> None:
        """Read all rows once.

        Raises:
            Damaged: a row cannot be read.
        """
        ends = [each.before for each in self._segments[1:]] + [tuple(self.rows)]
        for segment, end in zip(self._segments, ends, strict=True):
            found = rows_of(self._fd, self._place, segment)
            for start, stop, pieces in zip(segment.before, end, found, strict=True):
                # The last segment may have grown by now.
                whole = len(pieces) == 1 and pieces[0].first == start and pieces[0].end >= stop
                if not whole and (pieces or start != stop):
                    raise guard.Damaged(f"damaged log: /journal, segment {segment.number}")
