"""The index of a sweep's folder: the point of each run, and how it ended."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bridge.disk import replace_file
from bridge.errors import InputError, StorageError
from bridge.sweep.job import Job

INDEX = "index"
"""File name of a sweep's index, without extension."""
_MAX_BYTES = 1 << 28

Entries = dict[str, dict[str, Any]]


def read_index(folder: Path) -> Entries:
    """Read the entries of an index by the name of their log; empty if there is no index.

    Raises:
        InputError: a file of that name does not come from a sweep, or its logs are elsewhere.
    """
    path = folder / f"{INDEX}.json"
    table = folder / f"{INDEX}.csv"
    if os.path.lexists(table) and not os.path.lexists(path):
        raise InputError(f"{table}: no index of a sweep; move it away or give another --out")
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ValueError
        found = {}
        for entry in json.loads(text)["runs"]:
            name = entry["log"]
            # in this folder, and printable in the table
            if Path(name).name != name or not (name.endswith(".h5") and name.isprintable()):
                raise ValueError
            found[name] = {**entry, "point": dict(entry["point"])}
        return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"{path}: no index of a sweep; move it away or give another --out"
        ) from None


def write_index(folder: Path, command: str, jobs: Sequence[Job], earlier: Entries) -> None:
    """Rewrite index.json and index.csv.

    Args:
        folder: where they are written.
        command: name of the command of the runs.
        jobs: the runs of this sweep.
        earlier: entries of an earlier sweep; kept if their log still exists.

    Raises:
        StorageError: the disk is full or fails.
    """
    entries = {name: entry for name, entry in earlier.items() if (folder / name).exists()}
    for job in jobs:
        saved = None if job.saved is None else job.saved.name
        facts = {"log": job.log.name, "saved": saved, "command": list(job.command)}
        entries[job.log.name] = {**asdict(job), **facts}
    # JSON has no NaN: null stands for it.
    content = json.dumps({"command": command, "runs": list(entries.values())})
    whole = json.loads(content, parse_constant=lambda name: None)
    text = json.dumps(whole, indent=1, allow_nan=False)
    rows = [
        {
            "log": entry["log"],
            "saved": entry.get("saved"),
            "status": entry.get("status"),
            **dict(_scalars(entry["point"])),
            **{f"summary.{key}": value for key, value in _scalars(entry.get("summary", {}))},
        }
        for entry in entries.values()
    ]
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    with storage(folder):
        for suffix, content in (("json", text), ("csv", sheet.getvalue())):
            replace_file(folder / f"{INDEX}.{suffix}", content.encode())


@contextlib.contextmanager
def storage(folder: Path) -> Iterator[None]:
    """Report in one line what the system refuses in a sweep's folder.

    Raises:
        StorageError: with that line.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from None


def _scalars(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Give every number and text with its dotted key; lists of anything but tables as JSON."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _scalars(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and value and all(isinstance(v, Mapping) for v in value):
        for i, each in enumerate(value):
            yield from _scalars(each, f"{key}.{i}" if key else str(i))
    else:
        yield key, json.dumps(value) if isinstance(value, list | tuple) else value
