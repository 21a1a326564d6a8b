"""What logs are there and what is in them, as plain values for a table or JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.errors import InputError
from bridge.runlog import guard
from bridge.runlog.digest import (
    has_summary,
    joined,
    note_of,
    read_summary,
    summarise,
    table_figures,
)
from bridge.runlog.facts import Summary, TableFigures
from bridge.runlog.journal import newest_rows
from bridge.runlog.liveness import is_alive
from bridge.runlog.reader import (
    Run,
    claimed_rows,
    decode,
    newest_status,
    place_of_journal,
    read_contents,
    read_head,
    read_run,
)
from bridge.runlog.schema import EVENTS, STATUS
from bridge.runlog.stream import LogFile, open_log

_SMALL = 8 << 20
"""Bytes of a log that is not sealed up to which a list reads it whole, and so sees damage."""


def find_logs(places: Sequence[Path]) -> list[Path]:
    """List the files given, and the .h5 files in the folders given, oldest first.

    Raises:
        InputError: a place that is not there, or a folder that cannot be read.
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


def list_runs(logs: Iterable[Path]) -> list[dict[str, Any]]:
    """Give a row a log: log, command, state, alive, age, started, seconds, rows, step, seed, note.

    The age is the seconds since the log was last heard of: its newest heartbeat, or its end. Of a
    sealed log only its summary is read, or its head and tail if it has none. A log that cannot be
    read has the state "unreadable" and says why in its note.
    """
    rows = []
    for path in logs:
        try:
            rows.append(_listed(path))
        except (InputError, ValueError) as error:
            why = " ".join(str(error).removeprefix(f"{path}: ").split())
            rows.append({"log": str(path), "state": "unreadable", "note": why})
    return rows


def _listed(path: Path) -> dict[str, Any]:
    with guard.descriptor(path) as fd:
        summary = read_summary(fd)
        size = os.fstat(fd).st_size
    if summary is not None:
        state = "died" if summary.status == "running" else summary.status
        return _row(path, summary, state, False, summary.note)
    sealed, _ = guard.patiently(path, lambda: _sealed(path))
    if sealed:
        with open_log(path) as log:
            tables = {name: _ends(log, name) for name in log.schemas}
            summary = _summary_of(log, tables)
            return _row(path, summary, log.state, log.alive, summary.note)
    if size <= _SMALL:
        return _row_of(read_run(path))
    return guard.patiently(path, lambda: _peek(path))


def _sealed(path: Path) -> tuple[bool, Summary | None]:
    """Tell whether a log is sealed, and give its summary if it has one."""
    with guard.opened(path) as (file, fd):
        sealed = "sealed" in file.attrs
        return sealed, read_summary(fd) if sealed and has_summary(file, fd) else None


def _ends(log: LogFile, name: str) -> TableFigures:
    """Give the number of a table's rows and its last row, without the rows between."""
    rows = log.rows(name)
    figures = table_figures(log.slice(name, max(rows - 1, 0), rows))
    return figures.model_copy(update={"rows": rows})


def _summary_of(log: LogFile, tables: Mapping[str, TableFigures]) -> Summary:
    return summarise(log.meta, log.status, log.heartbeat, log.events, tables)


def _peek(path: Path) -> dict[str, Any]:
    """Make the row of a large log that is not sealed, from its head and tail."""
    contents = read_contents(path, whole=False)
    status, heartbeat = newest_status(contents)
    with guard.opened(path) as (file, fd):
        meta, schemas = read_head(file)
        place = place_of_journal(file, fd, meta, schemas)
        newest = newest_rows(fd, place) if place else [[] for _ in schemas]
        tables = {}
        for schema, rows in zip(schemas, newest, strict=True):
            if schema in (EVENTS, STATUS):
                continue
            last = decode(schema, schema.unpacked(rows[-1].packed if rows else b""))
            n = max(rows[-1].end if rows else 0, claimed_rows(file, schema))
            tables[schema.name] = table_figures(last).model_copy(update={"rows": n})
    summary = summarise(meta, status, heartbeat, (), tables)
    alive = is_alive(meta, status, heartbeat)
    state = "died" if status == "running" and not alive else status
    return _row(path, summary, state, alive, "" if alive else f"seal it: runs recover {path}")


def describe(run: Run) -> dict[str, Any]:
    """Give all about a run but its rows, of which it has number, columns and the newest."""
    tables = {name: table_figures(columns) for name, columns in run.tables.items()}
    return _described(_row_of(run), run, tables)


def describe_log(path: Path) -> dict[str, Any]:
    """Give what `describe` gives, without holding a sealed log's rows in memory.

    The figures of its tables are those of its summary; without one its rows are read in blocks.

    Raises:
        InputError: no log, or a damaged one.
    """
    sealed, summary = guard.patiently(path, lambda: _sealed(path))
    if not sealed:
        return describe(read_run(path))
    with open_log(path) as log:
        tables = summary.tables if summary and _fits(summary, log) else _figures(log)
        found = _summary_of(log, tables)
        row = _row(path, found, log.state, log.alive, found.note)
        return _described(row, log, tables)


def _fits(summary: Summary, log: LogFile) -> bool:
    """Tell whether a summary is of the tables that the log has."""
    has = {n: ([c.name for c in s.columns], log.rows(n)) for n, s in log.schemas.items()}
    says = {n: (list(table.columns), table.rows) for n, table in summary.tables.items()}
    return summary.run_id == log.meta["run_id"] and has == says


def _figures(log: LogFile) -> dict[str, TableFigures]:
    found = {}
    for name in log.schemas:
        figures = _ends(log, name)
        for i, block in enumerate(log.blocks(name)):
            part = table_figures(block)
            columns = {
                c: joined(figures.columns[c], each) if i else each
                for c, each in part.columns.items()
            }
            figures = TableFigures(rows=log.rows(name), columns=columns)
        found[name] = figures
    return found


def _described(
    row: dict[str, Any], run: Run | LogFile, tables: Mapping[str, TableFigures]
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


def _row_of(run: Run) -> dict[str, Any]:
    tables = {name: table_figures(columns) for name, columns in run.tables.items()}
    summary = summarise(run.meta, run.status, run.heartbeat, run.events, tables)
    return _row(run.path, summary, run.state, run.alive, _note(run))


def _row(path: Path, summary: Summary, state: str, alive: bool, note: str) -> dict[str, Any]:
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
    }


def _note(run: Run) -> str:
    if run.dropped:
        lost = ", ".join(f"{n} of {name}" for name, n in run.dropped.items())
        return f"damaged rows: {lost}"
    if not run.sealed and not run.alive:
        return f"seal it: runs recover {run.path}"
    return note_of(run.events)
