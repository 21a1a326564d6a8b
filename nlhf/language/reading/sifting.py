"""Sift rows: keep those that can be used, and count the others by reason."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from nlhf.errors import InputError
from nlhf.language.reading import hub
from nlhf.language.reading.messages import in_a_cell
from nlhf.language.reading.rows import Refused, Row
from nlhf.preferences.reading.records import Records, read_records

OnBadLines = Literal["error", "skip"]
MEMORY = "in memory"
_NAMED = 5
T = TypeVar("T")


@dataclass(frozen=True)
class Account:
    """How a source was read.

    Attributes:
        form: the file format, e.g. "JSON lines".
        layouts: number of rows per layout.
        rows: total number of rows.
        empty: rows where a required value is empty, such as "line 3: prompt".
        refused: rows that cannot be used, such as "line 4: tools: only text is read".
    """

    form: str = ""
    layouts: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    empty: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sifted(Generic[T]):
    """The content of a source, and how it was read."""

    kept: list[T]
    account: Account = field(default_factory=Account)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The rows that were left out, with reasons."""
        return (*self.account.empty, *self.account.refused)


def sift(
    source: object,
    take: Callable[[Row, int], tuple[str, Iterable[T]]],
    on_bad_lines: OnBadLines,
    nothing: Mapping[str, str],
    whole: bool = False,
) -> Sifted[T]:
    """Parse every row.

    Args:
        source: see `records_of`.
        take: called with a row and the number of rows read so far; returns the name of the row's
            layout and its content, or raises `Refused`.
        on_bad_lines: "error" rejects a source with a malformed row; "skip" leaves out that row,
            like all other unusable rows.
        nothing: message, by key, for the case that an empty key leaves no rows.
        whole: whether the user cannot choose to leave out rows, so that errors do not suggest it.

    Raises:
        InputError: the source cannot be read, a row is malformed, or nothing is left.
    """
    kept: list[T] = []
    layouts: Counter[str] = Counter()
    out: list[tuple[int, Refused]] = []
    rows = 0
    with records_of(source) as records:
        for number, values in records.rows:
            rows += 1
            try:
                read = {name: in_a_cell(value) for name, value in values.items()}
                name, found = take(Row(read, records.untyped), rows)
                kept.extend(found)
                layouts[name] += 1
            except Refused as refused:
                out.append((number, refused))
    if on_bad_lines == "error":
        _check(records, out, rows, whole)
    if not kept:
        raise _nothing(records, out, nothing)
    empty = tuple(f"{records.unit} {n}: {r.key}" for n, r in out if r.empty)
    others = tuple(f"{records.unit} {n}: {r}" for n, r in out if not r.empty)
    return Sifted(kept, Account(records.form, dict(layouts), rows, empty, others))


def _check(records: Records, out: Sequence[tuple[int, Refused]], rows: int, whole: bool) -> None:
    bad = [(number, refused) for number, refused in out if refused.malformed]
    if not bad:
        return
    number, refused = bad[0]
    message = f"{records.where(number)}: {refused}"
    if len(bad) > 1:
        named = ", ".join(str(n) for n, _ in bad[:_NAMED]) + (", ..." if len(bad) > _NAMED else "")
        message += f"; {len(bad)} of {rows} {records.unit}s are malformed: {named}"
    if len(bad) < rows and not whole:
        message += "; to leave such out: --set on_bad_lines=skip"
    raise InputError(message)


def _nothing(
    records: Records, out: Sequence[tuple[int, Refused]], nothing: Mapping[str, str]
) -> InputError:
    if not out:
        return InputError(f"{records.source}: empty; give one record or more")
    number, refused = out[0]
    where = records.where(number)
    if refused.empty and all(each.empty for _, each in out):
        return InputError(f"{where}: {refused.key}: {nothing[refused.key]}")
    more = f"; none of {len(out)} {records.unit}s can be used" if len(out) > 1 else ""
    return InputError(f"{where}: {refused}{more}")


def records_of(source: Any) -> AbstractContextManager[Records]:
    """The records of a file, a hub data set, or data in memory.

    Args:
        source: a path; `hf:DATASET[:split]`; a list of dicts, or of texts, which are prompts; a
            dict of columns; a data frame; or a `datasets.Dataset`.

    Raises:
        InputError: it is none of these, or cannot be read.
    """
    if isinstance(source, str) and source.startswith(hub.PREFIX):
        return nullcontext(hub.read_dataset(source))
    if isinstance(source, str | Path):
        return read_records(source)
    if hasattr(source, "columns") and (frame := getattr(source, "to_dicts", None)):
        source = frame()
    elif hasattr(source, "columns") and hasattr(source, "to_dict"):
        source = source.to_dict("records")
    elif isinstance(source, Mapping) and len({len(column) for column in source.values()}) == 1:
        source = [dict(zip(source, row, strict=True)) for row in zip(*source.values(), strict=True)]
    rows: list[Mapping[str, Any]] = []
    for number, value in enumerate(source if isinstance(source, Iterable) else (), 1):
        if isinstance(value, str):
            value = {"prompt": value}
        if not isinstance(value, Mapping):
            what = type(value).__name__
            raise InputError(f"{MEMORY}: record {number}: must be a dict or text, not {what}")
        rows.append(value)
    if not rows:
        what = type(source).__name__
        raise InputError(f"{MEMORY}: no records in {what}; give a list of dicts, or a path")
    return nullcontext(Records(MEMORY, MEMORY, enumerate(rows, 1), "record"))


def digest(source: str) -> str:
    """The sha256 of a source: of the bytes of a file, or of the records of a data set.

    Raises:
        InputError: the source cannot be read.
    """
    found = hashlib.sha256()
    if source.startswith(hub.PREFIX):
        for _, row in hub.read_dataset(source).rows:
            found.update(json.dumps(row, sort_keys=True, default=str).encode())
        return found.hexdigest()
    with Path(source).open("rb") as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()
