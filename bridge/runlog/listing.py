"""What logs are there and what is in them, as plain values for a table or JSON."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.errors import InputError
from bridge.runlog.reader import Run, read_run


def find_logs(places: Sequence[Path]) -> list[Path]:
    """List the files given, and the .h5 files in the folders given, oldest first.

    Raises:
        InputError: a place that is not there.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise InputError(f"{place}: no such file or folder; say where the logs are")
        found += place.glob("*.h5") if place.is_dir() else [place]
    return sorted(set(found), key=lambda path: path.stat().st_mtime)


def list_runs(logs: Iterable[Path]) -> list[dict[str, Any]]:
    """Give a row a log: log, command, state, alive, age, started, seconds, rows, step, seed, note.

    The age is the seconds since the log was last heard of: its newest heartbeat, or its end.
    A log that cannot be read has the state "unreadable" and says why in its note.
    """
    rows = []
    for path in logs:
        try:
            rows.append(_row(read_run(path)))
        except InputError as error:
            why = str(error).removeprefix(f"{path}: ")
            rows.append({"log": str(path), "state": "unreadable", "note": why})
    return rows


def describe(run: Run) -> dict[str, Any]:
    """Give all about a run but its rows, of which it has number, columns and the newest."""
    tables = {
        name: {
            "rows": len(columns["step"]),
            "columns": {column: _figures(values) for column, values in columns.items()},
        }
        for name, columns in run.tables.items()
    }
    return {
        **_row(run),
        "sealed": run.sealed,
        "dropped": dict(run.dropped),
        "meta": {k: v for k, v in run.meta.items() if k not in ("config", "tables")},
        "config": run.config,
        "tables": tables,
        "events": list(run.events),
    }


def _row(run: Run) -> dict[str, Any]:
    words = shlex.split(run.meta["command_line"])
    start = datetime.fromisoformat(run.meta["start_time"])
    steps = [columns["step"] for columns in run.tables.values()]
    return {
        "log": str(run.path),
        "command": next((w for w in words[1:] if not w.startswith("-")), words[0] if words else ""),
        "state": run.state,
        "alive": run.alive,
        "age": round(max(time.time() - run.heartbeat, 0.0), 1),
        "started": start.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        "seconds": round((time.time() if run.alive else run.heartbeat) - start.timestamp(), 1),
        "rows": sum(map(len, steps)),
        "step": max((int(each[-1]) for each in steps if len(each)), default=None),
        "seed": run.meta["seed"],
        "note": _note(run),
    }


def _note(run: Run) -> str:
    if run.dropped:
        lost = ", ".join(f"{n} of {name}" for name, n in run.dropped.items())
        return f"damaged rows: {lost}"
    if not run.sealed and not run.alive:
        return f"seal it: runs recover {run.path}"
    resumed = max((i for i, e in enumerate(run.events) if e["kind"] == "resumed"), default=0)
    failures = [event for event in run.events[resumed:] if event["kind"] == "exception"]
    return (
        ": ".join(filter(None, (failures[-1]["type"], failures[-1]["message"]))) if failures else ""
    )


def _figures(values: NDArray[Any]) -> Mapping[str, Any]:
    """Give first, last, smallest and largest value; of texts only first and last."""
    if not len(values):
        return {}
    ends = {"first": values[0].item(), "last": values[-1].item()}
    if values.dtype.kind != "f" and values.dtype.kind != "i":
        return ends
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ends
    return {**ends, "min": finite.min().item(), "max": finite.max().item()}
