"""Write TensorBoard's event files without TensorBoard.

A file is a sequence of records: length (64 bits), its masked CRC-32C, a message, its masked
CRC-32C; all little-endian. A message is the protocol buffer `Event`.

Source: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, summary.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

_VERSION = b"brain.Event:2"
_CASTAGNOLI = 0x82F63B78


def version_record(moment: float) -> bytes:
    """Encode the record that begins a file.

    Args:
        moment: its wall time, in seconds since 1970.
    """
    return _record(_double(1, moment) + _bytes(3, _VERSION))


def records(moment: float, steps: Mapping[int, Mapping[str, float]]) -> Iterator[bytes]:
    """Encode scalars as records.

    Args:
        moment: the wall time of all events, in seconds since 1970.
        steps: by step, the value of each tag; stored in 32 bits, as in TensorBoard.
    """
    for step, values in sorted(steps.items()):
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in values.items()
        )
        yield _record(_double(1, moment) + _varint(2 << 3) + _varint(step) + _bytes(5, summary))


def crc32c(data: bytes) -> int:
    """Compute the CRC-32C (Castagnoli) defined in RFC 3720."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _table() -> list[int]:
    return [_shifted(byte) for byte in range(256)]


def _shifted(crc: int) -> int:
    for _ in range(8):
        crc = (crc >> 1) ^ (_CASTAGNOLI if crc & 1 else 0)
    return crc


def _record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + _masked(length) + message + _masked(message)


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts: Iterable[int] = ()
    while value >= 0x80:
        parts = (*parts, value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    try:
        packed = struct.pack("<f", value)
    except OverflowError:
        packed = struct.pack("<f", float("inf") if value > 0 else float("-inf"))
    return _varint(field << 3 | 5) + packed
