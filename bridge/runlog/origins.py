"""Tables of where the numbers of several logs come from."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.card import cards_of
from bridge.runlog.compare import Comparison
from bridge.runlog.reader import Run
from bridge.runlog.summary import Table

# Not facts about the origin of a number, or shown elsewhere.
_LEFT_OUT = ("config", "config_sha256", "tables", "process", "pid", "run_id", "seed", "start_time")


def provenance_tables(found: Comparison) -> list[Table]:
    """List each log's file and run, the facts that differ between logs, and those they share."""
    numbers = [f"#{i + 1}" for i in range(len(found.runs))]
    letters = {i: group.label for group in found.groups for i in group.members}
    heads = ("", "config", "seed", "log", "state", "started", "seconds", "run", "sha256 of the log")
    logs = [
        (
            number,
            letters[i],
            run.meta["seed"],
            run.path.name,
            run.state,
            _started(run),
            _seconds(run),
            run.meta["run_id"],
            file_sha256(run.path)[:16] if run.sealed else "not sealed",
        )
        for i, (number, run) in enumerate(zip(numbers, found.runs, strict=True))
    ]
    facts = [dict(_facts(run)) for run in found.runs]
    keys = list(dict.fromkeys(key for each in facts for key in each))
    shared = {k: facts[0][k] for k in keys if all(each.get(k) == facts[0].get(k) for each in facts)}
    own = [
        (
            key,
            ", ".join(n for n, each in zip(numbers, facts, strict=True) if each.get(key) == value),
            value,
        )
        for key in keys
        if key not in shared
        for value in dict.fromkeys(each[key] for each in facts if key in each)
    ]
    tables: list[Table] = [("Logs", heads, logs)]
    if own:
        tables.append(("What differs", ("fact", "logs", "value"), own))
    tables.append(
        (
            "What all logs share" if len(logs) > 1 else "Facts",
            ("fact", "value"),
            list(shared.items()),
        )
    )
    return [*tables, *_data_tables(found, numbers)]


def _data_tables(found: Comparison, numbers: list[str]) -> list[Table]:
    """List the data that the runs have read, each data card once."""
    logs_by_card: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for number, run in zip(numbers, found.runs, strict=True):
        for card in cards_of(run.events):
            logs_by_card.setdefault(tuple(card.rows()), []).append(number)
    return [
        (f"Data of {', '.join(logs)}", ("fact", "value"), rows)
        for rows, logs in logs_by_card.items()
    ]


def file_sha256(path: Path) -> str:
    """Hash a file; "" if it can no longer be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    for key, value in run.meta.items():
        if key in _LEFT_OUT or value in ("", "{}"):
            continue
        text = str(value)
        if key in ("packages", "dataset"):
            text = ", ".join(f"{k} {v}" for k, v in _loaded(text).items()) or text
        yield key.replace("_", " "), text


def _loaded(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _started(run: Run) -> str:
    return datetime.fromisoformat(run.meta["start_time"]).strftime("%Y-%m-%d %H:%M:%S %Z")


def _seconds(run: Run) -> int:
    start = datetime.fromisoformat(run.meta["start_time"]).timestamp()
    return round((time.time() if run.alive else run.heartbeat) - start)
