"""The live report on all runs of a folder, served to this machine only."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Any

from bridge.errors import InputError
from bridge.report.html import document, live_parts, rows_table
from bridge.report.layout import Layout
from bridge.report.loopback import HTML, Handler, Loopback
from bridge.runlog.choosing import differing, named
from bridge.runlog.compare import Comparison, compare_runs
from bridge.runlog.listing import find_logs, list_runs
from bridge.runlog.results import Known

# Reading and drawing may take at most this share of the time.
_LOAD = 0.2
_NEWEST = 10


class Watch(Loopback):
    """Serves one page on the runs of a folder that are being written, and those that were."""

    # The page's own policy, in its head, is stricter; this one keeps it out of frames.
    policy = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        interval: float = 5.0,
        known: Known | None = None,
        layout: Layout | None = None,
    ) -> None:
        """Start listening; `serve_forever` answers requests.

        Args:
            folder: where the logs are, directly or in subfolders.
            port: 0 for any free port.
            interval: minimum seconds between two reads.
            known: headlines by command, for logs of programs that did not write theirs.
            layout: see `bridge.report.figures.sections`.

        Raises:
            InputError: there is no such folder, or the port is not available.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; say where the logs are")
        self.folder, self.interval, self.known = folder, interval, known or {}
        self.layout = layout
        self._once_alive: set[str] = set()
        self._lock = threading.Lock()
        self._page, self._until = "", 0.0
        super().__init__(port, _Handler)

    def page(self) -> str:
        """Give the page; it is redrawn if `interval` seconds have passed since the last time."""
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                header, main = self._drawn()
                took = time.monotonic() - began
                wait = max(self.interval, took / _LOAD)
                title = f"Runs in {self.folder}"
                self._page = document(title, header, main, refresh=wait)
                self._until = began + wait
            return self._page

    def _drawn(self) -> tuple[str, list[str]]:
        try:
            rows = list_runs(find_logs(_folders(self.folder)), self.known)
        except InputError as error:
            return _header(str(error)), []
        # In a fixed order, so that each run keeps its letter and colour.
        rows.sort(key=lambda row: (row.get("started", ""), row["log"]))
        self._once_alive |= {row["log"] for row in rows if row.get("alive")}
        running = sum(bool(row.get("alive")) for row in rows)
        shown = [row for row in rows if row["log"] in self._once_alive]
        main = [_table(shown or rows[-_NEWEST:])] if rows else []
        for found in _compared(shown, self.known):
            main += live_parts(found, self.layout) if isinstance(found, Comparison) else [found]
        return _header(f"{running} running" if running else "No run is being written"), main


class _Handler(Handler):
    server: Watch  # pyright: ignore[reportIncompatibleVariableOverride]

    def give(self, name: str) -> None:
        if name:
            self.refuse(HTTPStatus.NOT_FOUND)
            return
        data = self.server.page().encode()
        self.head(HTTPStatus.OK, HTML, len(data))
        self.body(data)


def _folders(folder: Path) -> list[Path]:
    """Give the folder and its subfolders, except checkpoints."""
    below = (each for each in sorted(folder.rglob("*")) if each.is_dir())
    return [folder, *(each for each in below if ".checkpoints" not in str(each))]


def _header(text: str) -> str:
    moment = datetime.now().astimezone().strftime("%H:%M:%S")
    return f'<p class="live">{escape(text)}. <span class="dim">Looked at {moment}.</span></p>'


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for row, settings in zip(rows, differing(rows), strict=True):
        unit = row.get("unit") or ""
        value = row.get("result")
        result = "" if value is None else f"{value:.4g} {unit}".strip()
        leading = (row["log"], row.get("command"), row["state"], row.get("step"))
        cells.append([*leading, row.get("label"), result, named(settings), row["note"]])
    columns = ("log", "command", "status", "step", "metric", "result", "differs in", "note")
    kept = [i for i in range(len(columns)) if any(row[i] not in (None, "") for row in cells)]
    return rows_table([columns[i] for i in kept], [[row[i] for i in kept] for row in cells])


def _compared(rows: Iterable[Mapping[str, Any]], known: Known) -> Iterator[Comparison | str]:
    """Give the comparison of the runs of each command, alone what cannot be compared yet."""
    commands: dict[str, list[Path]] = {}
    for row in rows:
        if row.get("step") is not None:
            commands.setdefault(row["command"], []).append(Path(row["log"]))
    for paths in commands.values():
        try:
            yield compare_runs(paths, known=known)
        except InputError:
            yield from (_alone(path, known) for path in paths)


def _alone(path: Path, known: Known) -> Comparison | str:
    try:
        return compare_runs([path], known=known)
    except InputError as error:
        return f"<p>{escape(str(error))}</p>"
