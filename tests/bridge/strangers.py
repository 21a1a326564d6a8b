"""Logs with correct checksums and arbitrary content; resealed after the damage."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bridge.runlog.facts import schemas_from_json
from bridge.runlog.layout import create_meta
from bridge.runlog.schema import EVENTS, STATUS, TableSchema
from tests.bridge.records import Epoch, new_log, row

TEXTS = (
    "",
    " ",
    "'",
    'python "cli.py eqprop-run',
    "\\",
    "\x1b[31mred\x1b]0;title\x07",
    "a\nb\rc",
    "null",
    "[]",
    "{}",
    "3",
    '"x"',
    "{",
    '{"a": NaN}',
    '{"a": -Infinity}',
    '{"a": 1e999}',
    '{"a": "\\ud800", "\\udfff": 1, "\\u0000": "\\u001b[2J"}',
    '{"a": %s}' % ("9" * 5000),
    '{"a": %s}' % ("9" * 400),
    "[" * 10000 + "]" * 10000,
    '{"a":' * 10000 + "1" + "}" * 10000,
    '{"a":' * 60 + "1" + "}" * 60,
    "../../../etc/passwd",
    "/etc/passwd",
    "9999-12-31T23:59:59+00:00",
    "0001-01-01T00:00:00+00:00",
    "2026-02-30T00:00:00+00:00",
    "2026-01-01",
    "yesterday",
    "<script>alert(1)</script>",
    "x" * 100_000,
    "é" * 1000,
    "\u202egnp.exe",
)
NUMBERS = (0, -1, 1, 2**31, 2**63 - 1, -(2**63), 0.5, float("nan"), float("inf"), -1e300, True)
VALUES: tuple[Any, ...] = (*TEXTS, *NUMBERS, None, [], {}, [[]], {"a": {"b": []}})


def base_log(path: Path) -> Path:
    """A sealed log with several of everything."""
    with new_log(path, config={"seed": 7, "model": {"sizes": [3, 2], "name": "x"}}) as log:
        for step in range(12):
            log.log("metrics", row(step))
        log.log("epochs", Epoch(11, 1, 2.5))
        log.event("summary", of={"loss": 0.5})
        log.event("exception", type="RunFailed", message="cause")
    return path


def damage(source: Path, target: Path, random_: random.Random) -> str:
    """Copy a log, change its content, recompute its checksums; say what was changed."""
    shutil.copy(source, target)
    change = random_.choice(CHANGES)
    with h5py.File(target, "r+") as file:
        said = [change(file, random_)]
        if random_.random() < 0.2:
            # the first change may have removed what the second needs
            with contextlib.suppress(Exception):
                said.append(random_.choice(CHANGES)(file, random_))
        # Without a summary, lists must read the rest of the log.
        there = "summary" in file.attrs and "summary" in file and "summary" not in said[0]
        if there and random_.random() < 0.8:
            del file.attrs["summary"], file["summary"]
    return "; ".join(said)


def _facts(file: h5py.File) -> dict[str, Any]:
    found = {}
    for name, each in file["meta"].items():  # type: ignore[union-attr]
        value = each[()]
        found[name] = value.decode() if isinstance(value, bytes) else value.item()
    found.pop("crc")
    return found


def _rewrite(file: h5py.File, facts: dict[str, Any]) -> None:
    del file["meta"]
    create_meta(file, facts)


def _a_fact(file: h5py.File, random_: random.Random) -> str:
    facts = _facts(file)
    name = random_.choice(sorted(facts))
    value = random_.choice((*TEXTS, *NUMBERS))
    if isinstance(value, str):
        value = value.rstrip("\0") or " "
    facts[name] = value
    if random_.random() < 0.1:
        del facts[name]
    if random_.random() < 0.1:
        facts[f"extra {random_.randrange(9)}"] = random_.choice(TEXTS) or " "
    _rewrite(file, facts)
    return f"fact {name}={str(value)[:40]!r}"


def _mutated(value: Any, random_: random.Random) -> Any:
    """Change one thing somewhere in a JSON value."""
    if random_.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return random_.choice(VALUES)
    if isinstance(value, dict):
        found = dict(value)
        key = random_.choice(sorted(found))
        kind = random_.random()
        if kind < 0.2:
            del found[key]
        elif kind < 0.3:
            found[random_.choice(TEXTS)] = found.pop(key)
        else:
            found[key] = _mutated(found[key], random_)
        return found
    found_list = list(value)
    at = random_.randrange(len(found_list))
    if random_.random() < 0.2:
        found_list.append(found_list[at])
    else:
        found_list[at] = _mutated(found_list[at], random_)
    return found_list


def _json_fact(file: h5py.File, random_: random.Random) -> str:
    facts = _facts(file)
    name = random_.choice(["config", "tables", "tables", "dataset", "packages"])
    facts[name] = json.dumps(_mutated(json.loads(facts[name]), random_))
    _rewrite(file, facts)
    return f"{name} as JSON: {facts[name][:80]!r}"


def _put(file: h5py.File, schema: TableSchema, columns: dict[str, Any]) -> None:
    group = file[schema.name]
    columns["crc"] = schema.crcs(columns)
    for name, values in columns.items():
        del group[name]  # type: ignore[union-attr]
        group.create_dataset(name, data=values, maxshape=(None,), chunks=True)  # type: ignore[union-attr]


def _columns(file: h5py.File, schema: TableSchema) -> dict[str, Any]:
    return {c.name: file[schema.name][c.name][:] for c in schema.columns}  # type: ignore[index]


def _an_event(file: h5py.File, random_: random.Random) -> str:
    columns = _columns(file, EVENTS)
    at = random_.randrange(len(columns["json"]))
    text = json.dumps(_mutated(json.loads(columns["json"][at]), random_))
    if random_.random() < 0.3:
        text = random_.choice(TEXTS)
    columns["json"][at] = text.encode()[:1000]
    if random_.random() < 0.3:
        name = random_.choice(["time", "event"])
        columns[name][at] = random_.choice(NUMBERS[:6])
    _put(file, EVENTS, columns)
    return f"event {text[:60]!r}"


def _a_status(file: h5py.File, random_: random.Random) -> str:
    columns = _columns(file, STATUS)
    columns["time"][-1] = random_.choice((np.nan, np.inf, -1.0, 1e300, 1e12, 0.0))
    if random_.random() < 0.5:
        columns["status"][-1] = random_.randrange(256)
    _put(file, STATUS, columns)
    return f"status {columns['time'][-1]}, {columns['status'][-1]}"


def _rows(file: h5py.File, random_: random.Random) -> str:
    name = random_.choice(["metrics", "epochs"])
    try:
        schemas = schemas_from_json(_facts(file)["tables"])
        schema = next(s for s in schemas if s.name == name)
        columns = _columns(file, schema)
        column = random_.choice(schema.columns)
        values = columns[column.name]
        raw = values.view(np.uint8)
        for _ in range(random_.randrange(1, 4)):
            raw[random_.randrange(len(raw))] = random_.randrange(256)
        if random_.random() < 0.2:
            columns = {n: v[:0] for n, v in columns.items()}
        _put(file, schema, columns)
    except (KeyError, ValueError, StopIteration, TypeError):
        return "rows, not changed"
    return f"rows of {name}/{column.name}"


def _a_summary(file: h5py.File, random_: random.Random) -> str:
    found = file["summary"]
    text = json.dumps(_mutated(json.loads(found[()]), random_)).encode()  # type: ignore[index]
    del file["summary"]
    dtype = h5py.string_dtype("utf-8", len(text))
    new = file.create_dataset("summary", data=np.array(text, dtype), dtype=dtype)
    file.flush()
    place = f"summary at {new.id.get_offset():020d}, {len(text):012d} bytes, "
    file.attrs["summary"] = np.bytes_(place + f"CRC-32 {zlib.crc32(text):08x}")
    return f"summary {text[:60]!r}"


def _another_dataset(file: h5py.File, random_: random.Random) -> str:
    places: list[str] = []
    file.visit(places.append)
    place = random_.choice(places)
    del file[place]
    value = random_.choice(
        [
            3,
            "text",
            np.zeros(5),
            np.zeros((12, 2)),
            np.zeros(12, "f4"),
            np.zeros(12, [("a", "i4")]),
            np.array([b"x" * 9] * 12),
            np.zeros(12, ">f8"),
            h5py.Empty("f8"),
            np.zeros(0),
        ]
    )
    if random_.random() < 0.2:
        file.create_group(place)
    elif random_.random() < 0.8:
        file[place] = value
    return f"dataset {place} is {value!r:.40}"


def _an_attribute(file: h5py.File, random_: random.Random) -> str:
    value = random_.choice([3, "x", np.zeros(4), "x" * 1000, h5py.Empty("i4")])
    name = random_.choice(["summary", "sealed", "default", "NX_class"])
    file.attrs[name] = value
    return f"attribute {name}={value!r:.20}, with summary"


CHANGES: tuple[Callable[[h5py.File, random.Random], str], ...] = (
    _a_fact,
    _a_fact,
    _json_fact,
    _json_fact,
    _an_event,
    _an_event,
    _a_status,
    _rows,
    _a_summary,
    _a_summary,
    _another_dataset,
    _an_attribute,
)
