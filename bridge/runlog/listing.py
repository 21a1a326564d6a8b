"""List logs and their contents, as plain values for a table or JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import Any

from bridge.errors import InputError
from bridge.runlog import guard
from bridge.runlog.digest import (
    command_of,
    join_figures,
    note_of,
    read_summary,
    summarise,
    table_figures,
)
from bridge.runlog.facts import Figures, Summary, TableFigures, from_json
from bridge.runlog.faults import reason
from bridge.runlog.results import Known, headline_of, numbers_in, result_of
from bridge.runlog.stream import LogFile, open_log

_SMALL = 8 << 20
"""A list reads unsealed logs of at most so many bytes completely, and so detects damage."""


def find_logs(places: Sequence[Path]) -> list[Path]:
    """List the given files, and the .h5 files in the given folders, oldest first.

    Raises:
        InputError: a path does not exist, or a folder cannot be read.
    """
    found: list[Path] = []
    for place in places:
        if not os.path.lexists(place):
            raise InputError(f"{place}: no such file or folder; say where the logs are")
        if place.is_dir():
            try:
                names = os.listdir(place)
            except OSError as error:
                raise InputError(f"{place}: cannot be read: {error.strerror or error}") from None
            found += [place / name for name in names if name.endswith(".h5")]
        else:
            found.append(place)
    return sorted(set(found), key=lambda path: (_changed(path), path))


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def list_runs(logs: Iterable[Path], known: Known | None = None) -> list[dict[str, Any]]:
    """Give one row per log.

    Only the summary of a sealed log is read, or its first and last rows if it has none.

    Args:
        logs: the logs.
        known: headlines by command, for logs of programs that did not write theirs.

    Returns:
        Each row has log, command, state, alive, age, started, seconds, rows, step, seed, note,
            config, result, metric, label, unit and better. The age is the seconds since the last
            sign of life: the newest heartbeat, or the end. The result is the value of the headline
            `metric` at the last step; None if there is none yet. A log that cannot be read has log,
            the state "unreadable", and the reason in its note.
    """
    rows = []
    for path in logs:
        try:
            rows.append(_listed(path, known or {}))
        except (InputError, ValueError) as error:
            why = " ".join(str(error).removeprefix(f"{path}: ").split())
            rows.append({"log": str(path), "state": "unreadable", "note": why})
    return rows


def _listed(path: Path, known: Known) -> dict[str, Any]:
    summary, size = _summary(path)
    if summary is not None and _says_all(summary, known):
        state = "died" if summary.status == "running" else summary.status
        return _row(path, summary, state, False, summary.note)
    with open_log(path, whole=size <= _SMALL) as log:
        tables = {name: _ends(log, name) for name in log.schemas}
        return _row_of(log, tables, known)


def _says_all(summary: Summary, known: Known) -> bool:
    """Tell whether a summary has the config and the result, which older programs left out."""
    has_result = summary.headline is not None or not known.get(summary.command)
    return summary.config is not None and has_result


def _ends(log: LogFile, name: str) -> TableFigures:
    """Give the number of a table's rows, and its first and last rows, without those between."""
    rows = log.rows(name)
    first, last = log.slice(name, 0, min(rows, 1)), log.slice(name, max(rows - 1, 0), rows)
    figures = join_figures(table_figures(first), table_figures(last))
    columns = {c: Figures(first=f.first, last=f.last) for c, f in figures.columns.items()}
    return TableFigures(rows=rows, columns=columns)


def _row_of(log: LogFile, tables: Mapping[str, TableFigures], known: Known) -> dict[str, Any]:
    command = command_of(log.meta["command_line"])
    headline = headline_of(log.meta, numbers_in(log.schemas.values()), known.get(command, ()))
    result = result_of(log, headline)
    summary = summarise(log.meta, log.status, log.heartbeat, log.events, tables, headline, result)
    return _row(log.path, summary, log.state, log.alive, _note(log))


def describe_log(path: Path, known: Known | None = None) -> dict[str, Any]:
    """Describe a run without its rows: their number, and the columns with their figures.

    The figures of a sealed log come from its summary. Without one the rows are read in blocks. For
    a large log that is not sealed, only the first and last values are given.

    Args:
        path: the log.
        known: see `list_runs`.

    Raises:
        InputError: the log is missing or damaged.
    """
    summary, size = _summary(path)
    small = size <= _SMALL
    with open_log(path, whole=small) as log:
        if summary and log.sealed and _fits(summary, log):
            tables = summary.tables
        elif log.sealed or small:
            tables = _figures(log)
        else:
            tables = {name: _ends(log, name) for name in log.schemas}
        return _described(_row_of(log, tables, known or {}), log, tables)


def _summary(path: Path) -> tuple[Summary | None, int]:
    """Give a sealed log's summary, and the size of a log."""
    with guard.descriptor(path) as fd:
        try:
            return read_summary(fd), os.fstat(fd).st_size
        except ValueError as error:
            raise InputError(f"{path}: damaged log: {reason(error)}") from None


def _fits(summary: Summary, log: LogFile) -> bool:
    """Tell whether a summary describes the tables of the log."""
    has = {n: ([c.name for c in s.columns], log.rows(n)) for n, s in log.schemas.items()}
    says = {n: (list(table.columns), table.rows) for n, table in summary.tables.items()}
    return summary.run_id == log.meta["run_id"] and has == says


def _figures(log: LogFile) -> dict[str, TableFigures]:
    found = {}
    for name in log.schemas:
        parts = map(table_figures, log.blocks(name))
        found[name] = reduce(join_figures, parts, table_figures(log.slice(name, 0, 0)))
    return found


def _described(
    row: dict[str, Any], run: LogFile, tables: Mapping[str, TableFigures]
) -> dict[str, Any]:
    return {
        **row,
        "sealed": run.sealed,
        "dropped": dict(run.dropped),
        "meta": {k: v for k, v in run.meta.items() if k not in ("config", "tables")},
        "config": run.config,
        "tables": {
            name: {
                "rows": table.rows,
                "columns": {c: _plain(f) for c, f in table.columns.items()},
            }
            for name, table in tables.items()
        },
        "events": list(run.events),
    }


def _plain(figures: Any) -> dict[str, Any]:
    return {name: value for name, value in figures if value is not None}


def _row(path: Path, summary: Summary, state: str, alive: bool, note: str) -> dict[str, Any]:
    headline = summary.headline
    start, now = datetime.fromisoformat(summary.start_time), time.time()
    return {
        "log": str(path),
        "command": summary.command,
        "state": state,
        "alive": alive,
        "age": round(max(now - summary.heartbeat, 0.0), 1),
        "started": start.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        "seconds": round((now if alive else summary.heartbeat) - start.timestamp(), 1),
        "rows": sum(table.rows for table in summary.tables.values()),
        "step": summary.step,
        "seed": summary.seed,
        "note": note,
        "config": from_json(summary.config or "{}"),
        "result": summary.result,
        "metric": headline.metric if headline else None,
        "label": headline.name if headline else None,
        "unit": headline.unit if headline else None,
        "better": headline.better if headline else None,
    }


def _note(run: LogFile) -> str:
    if run.dropped:
        lost = ", ".join(f"{n} of {name}" for name, n in run.dropped.items())
        return f"damaged rows: {lost}"
    if not run.sealed and not run.alive:
        return f"seal it: runs recover {run.path}"
    return note_of(run.events)
