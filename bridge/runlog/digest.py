"""A log's summary, stored when it is sealed, so that lists need not read any of its rows.

It is JSON in the dataset `/summary`. The root's attribute `summary` holds its position in the file,
its length and its CRC-32; both can be read without HDF5.
"""

from __future__ import annotations

import os
import re
import shlex
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bridge.headline import Headline
from bridge.invocation import is_program, without_program
from bridge.runlog import guard, superblock
from bridge.runlog.facts import Figures, Summary, TableFigures, summary_from_json

NAME = "summary"
# The root's attributes are searched for in so many bytes at a file's beginning.
_HEAD = 1 << 14
_MAX_BYTES = 16 << 20
_PLACE = re.compile(rb"summary at (\d{20}), (\d{12}) bytes, CRC-32 ([0-9a-f]{8})")


def command_of(command_line: str) -> str:
    """Give the command's name: this program's command, or the name of a user's own script."""
    try:
        words = shlex.split(command_line)
    except ValueError:
        # An unclosed quote.
        words = command_line.split()
    if not words:
        return ""
    if not is_program(words):
        run = words[:1] == ["python"] and len(words) > 1 and not words[1].startswith("-")
        return Path(words[run]).name
    return next((w for w in without_program(words) if not w.startswith("-")), words[0])


def note_of(events: Sequence[Mapping[str, Any]]) -> str:
    """Say how a run failed; "" if it did not, or has continued since."""
    resumed = max((i for i, e in enumerate(events) if e["kind"] == "resumed"), default=0)
    failures = [event for event in events[resumed:] if event["kind"] == "exception"]
    if not failures:
        return ""
    return ": ".join(filter(None, (failures[-1]["type"], failures[-1]["message"])))


def figures_of(values: NDArray[Any]) -> Figures:
    """Give first, last, smallest and largest finite value; for texts and bools only the ends."""
    if not len(values):
        return Figures()
    ends = Figures(first=values[0].item(), last=values[-1].item())
    finite = values
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
    if values.dtype.kind not in "fi" or not len(finite):
        return ends
    return Figures(
        first=ends.first, last=ends.last, min=finite.min().item(), max=finite.max().item()
    )


def joined(before: Figures, after: Figures) -> Figures:
    """Combine the figures of two consecutive parts of a column."""
    low = [each.min for each in (before, after) if each.min is not None]
    high = [each.max for each in (before, after) if each.max is not None]
    first = after.first if before.first is None else before.first
    last = before.last if after.last is None else after.last
    return Figures(first=first, last=last, min=min(low, default=None), max=max(high, default=None))


def table_figures(columns: Mapping[str, NDArray[Any]]) -> TableFigures:
    """Give the figures of a table's columns."""
    rows = len(columns["step"])
    return TableFigures(rows=rows, columns={n: figures_of(v) for n, v in columns.items()})


def join_figures(before: TableFigures, after: TableFigures) -> TableFigures:
    """Combine the figures of two consecutive parts of a table."""
    return TableFigures(
        rows=before.rows + after.rows,
        columns={c: joined(each, after.columns[c]) for c, each in before.columns.items()},
    )


def summarise(
    meta: Mapping[str, Any],
    status: str,
    heartbeat: float,
    events: Sequence[Mapping[str, Any]],
    tables: Mapping[str, TableFigures],
    headline: Headline | None,
    result: float | None,
) -> Summary:
    """Build a log's summary."""
    steps = [table.columns["step"].last for table in tables.values()]
    return Summary(
        run_id=meta["run_id"],
        command=command_of(meta["command_line"]),
        start_time=meta["start_time"],
        seed=meta["seed"],
        status=status,
        heartbeat=heartbeat,
        step=max((int(step) for step in steps if step is not None), default=None),
        note=note_of(events),
        tables=dict(tables),
        config=meta["config"],
        headline=headline,
        result=result,
    )


def place_summary(file: h5py.File) -> None:
    """Reserve room for the summary's position among the first attributes of a new file."""
    file.attrs[NAME] = np.bytes_(_place(0, b""))


def write_summary(file: h5py.File, summary: Summary) -> None:
    """Store a summary in a file that is about to be sealed, after `place_summary`."""
    text = summary.model_dump_json().encode()
    dtype = h5py.string_dtype("utf-8", len(text))
    found = file.create_dataset(NAME, data=np.array(text, dtype), dtype=dtype)
    file.flush()
    file.attrs.modify(NAME, np.bytes_(_place(found.id.get_offset(), text)))


def _place(offset: int, text: bytes) -> str:
    return f"summary at {offset:020d}, {len(text):012d} bytes, CRC-32 {zlib.crc32(text):08x}"


def read_summary(fd: int) -> Summary | None:
    """Read a sealed log's summary; None if it is not found directly, or damaged.

    Args:
        fd: the file, open for reading.

    Raises:
        ValueError: it is undamaged, but no valid summary.
    """
    head = os.pread(fd, _HEAD, 0)
    block = head[: superblock.SIZE]
    if not superblock.is_superblock(block) or superblock.is_open_for_writing(block):
        return None
    if not superblock.is_intact(block):
        return None
    return _at(fd, head)


def has_summary(file: h5py.File, fd: int) -> bool:
    """Tell whether a sealed log has a summary, and verify it.

    Raises:
        Damaged: the summary is damaged.
    """
    there = NAME in file
    if not there and not h5py.h5a.exists(file.id, NAME.encode()):
        return False
    text = guard.short_text(file, NAME)
    if not there or _at(fd, text) is None:
        raise guard.Damaged(f"damaged log: /{NAME}")
    return True


def _at(fd: int, head: bytes) -> Summary | None:
    found = _PLACE.search(head)
    if not found:
        return None
    place, length = int(found[1]), int(found[2])
    if length > _MAX_BYTES or place >= 1 << 62:
        return None
    text = os.pread(fd, length, place)
    if len(text) != length or zlib.crc32(text) != int(found[3], 16):
        return None
    return summary_from_json(text)
