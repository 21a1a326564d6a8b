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
    """Rows of a table that follow one another.

    Args:
        first: number of the first one.
        packed: all of them.
        crcs: of each.
    """

    first: int
    packed: bytearray = field(default_factory=bytearray, repr=False)
    crcs: array[int] = field(default_factory=lambda: array("I"), repr=False)

    @property
    def end(self) -> int:
        """Number of the row after the last one."""
        return self.first + len(self.crcs)

    def part(self, start: int, end: int, size: int) -> Rows:
        """Give the rows of these numbers, as far as they are here.

        Args:
            start: of the first.
            end: of the one after the last.
            size: bytes of a packed row.
        """
        first, last = max(start - self.first, 0), max(end - self.first, 0)
        packed = self.packed[first * size : last * size]
        return Rows(self.first + first, packed, self.crcs[first:last])

    def add(self, more: Rows) -> None:
        """Put more rows to the end, which follow on these."""
        self.packed += more.packed
        self.crcs += more.crcs


def rows_of(fd: int, place: Place, segment: Segment) -> list[list[Rows]]:
    """Read a segment: by the number of the table its rows, in one piece where nothing is damaged.

    What is damaged is left out; what comes after it in the segment is found again.
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
    """Cut rows where one is missing."""
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
        fd: the file, open to read.
        place: where the journal lies.

    Returns:
        By the number of the table, its rows; in one piece where nothing is damaged.
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
    """A journal as it stood at a moment, of which any rows can be read; nothing is held."""

    def __init__(self, fd: int, place: Place) -> None:
        """Look where the rows lie.

        Args:
            fd: the file, open to read; it stays open as long as this is used.
            place: where the journal lies.

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
        """How many each table has."""
        self._befores = [[s.before[t] for s in self._segments] for t in range(len(place.sizes))]

    def read(self, table: int, start: int, end: int) -> Rows:
        """Read some rows, each verified.

        Args:
            table: number of the table.
            start: number of the first row.
            end: of the one after the last.

        Raises:
            Damaged: one cannot be read.
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
            Damaged: one cannot be read.
        """
        ends = [each.before for each in self._segments[1:]] + [tuple(self.rows)]
        for segment, end in zip(self._segments, ends, strict=True):
            found = rows_of(self._fd, self._place, segment)
            for start, stop, pieces in zip(segment.before, end, found, strict=True):
                # Of the last segment there may be more by now.
                whole = len(pieces) == 1 and pieces[0].first == start and pieces[0].end >= stop
                if not whole and (pieces or start != stop):
                    raise guard.Damaged(f"damaged log: /journal, segment {segment.number}")
