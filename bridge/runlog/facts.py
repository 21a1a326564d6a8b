"""What a log may state about its run: typed, and checked before it is used.

A checksum shows that a file is as it was written, not who wrote it. A log from an unknown source
can have correct checksums and any content.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from bridge.errors import InputError
from bridge.headline import Headline
from bridge.runlog.schema import (
    EVENTS,
    RESERVED,
    STATUS,
    STATUSES,
    Column,
    TableSchema,
    check_name,
)

MAX_DEPTH = 64
"""Largest depth of nested lists and objects; a config has less than ten levels."""
_LATEST = 253402214400.0
"""The last day of the year 9999, in seconds since 1970."""
_MAX_TABLES, _MAX_COLUMNS = 1000, 20_000


def from_json(text: str | bytes, *, plain: bool = False) -> Any:
    """Parse JSON from an untrusted source.

    An unpaired surrogate, which no file can hold, becomes the text of its escape.

    Args:
        text: the JSON.
        plain: refuse NaN and infinities, which JSON lacks.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has a number of too many digits.
    """
    try:
        value = json.loads(text, parse_constant=_no_number if plain else None)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    _check_depth(value)
    surrogates = b"\\ud" if isinstance(text, bytes) else "\\ud"
    return _sayable(value) if surrogates in text.lower() else value  # type: ignore[operator]


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"has {name}")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]


def _sayable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_sayable(key): _sayable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_sayable(each) for each in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _object(text: str) -> str:
    if not isinstance(from_json(text, plain=True), dict):
        raise ValueError("is no object")
    return text


def _headline(text: str) -> str:
    if text:
        Headline.model_validate_json(text)
    return text


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not 1970 < moment.year < 9999:
        raise ValueError("is no time with its zone after 1970")
    return text


Text = Annotated[str, Field(max_length=1 << 20)]
Object = Annotated[str, AfterValidator(_object)]
Name = Annotated[str, Field(pattern=r"^[0-9A-Za-z_.-]{0,64}$")]
Headlined = Annotated[str, AfterValidator(_headline)]
Moment = Annotated[str, AfterValidator(_moment)]
Time = Annotated[float, Field(ge=0, le=_LATEST, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class Facts(BaseModel):
    """The facts about a run that every log has; further texts and numbers are allowed."""

    model_config = ConfigDict(extra="allow", strict=True)

    run_id: Annotated[Name, Field(min_length=1)]
    parent: Text
    start_time: Moment
    command_line: Text
    headline: Headlined = ""
    config: Object
    config_sha256: Text
    seed: Whole
    dataset: Object
    git_commit: Text
    git_dirty: bool
    packages: Object
    cpu: Text
    gpu: Text
    host: Text
    pid: Whole
    process: Text
    threads: Whole
    deterministic: bool
    tf32: bool


def check_facts(meta: Mapping[str, Any]) -> None:
    """Check the facts of a log.

    Raises:
        InputError: names the first invalid fact.
    """
    try:
        Facts.model_validate(dict(meta))
    except ValidationError as error:
        raise InputError(f"/meta/{_first(error)}; this is no run log") from None


class _Column(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, Field(max_length=1000), AfterValidator(check_name)]
    kind: Literal["int", "float", "bool", "choice"]
    names: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=256)]
    length: Literal[0]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, Field(max_length=200), AfterValidator(check_name)]
    columns: Annotated[list[_Column], Field(min_length=1, max_length=_MAX_COLUMNS)]


_TABLES = TypeAdapter(Annotated[list[_Table], Field(min_length=1, max_length=_MAX_TABLES)])


def schemas_from_json(text: str) -> tuple[TableSchema, ...]:
    """Parse the result of `schema.schemas_to_json`, and add the log's own tables.

    Raises:
        ValueError: it is malformed, or has names or kinds that no log has.
    """
    try:
        tables = _TABLES.validate_python(from_json(text, plain=True))
    except ValidationError as error:
        raise ValueError(f"/meta/tables: {_first(error)}") from None
    schemas = tuple(
        TableSchema(t.name, tuple(Column(c.name, c.kind, tuple(c.names)) for c in t.columns))
        for t in tables
    )
    if len({schema.name for schema in schemas} - set(RESERVED)) < len(schemas):
        raise ValueError("/meta/tables: two tables of one name, or one of the log's own")
    for schema in schemas:
        columns = {column.name for column in schema.columns}
        choices = all(len(set(c.names)) == len(c.names) for c in schema.columns)
        named = all((c.kind == "choice") == bool(c.names) for c in schema.columns)
        if len(columns) < len(schema.columns) or not (choices and named):
            raise ValueError(f"/meta/tables: {schema.name} has two columns or choices of one name")
        if Column("step", "int") not in schema.columns:
            raise ValueError(f"/meta/tables: {schema.name} has no column of steps")
    return (*schemas, EVENTS, STATUS)


class _Event(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    time: Time
    kind: Annotated[str, Field(max_length=1 << 16)]


class _Exception(_Event):
    type: str
    message: str


class _Summary(_Event):
    of: dict[str, Any]


class _Resumed(_Event):
    step: int


class _Extended(_Event):
    key: str
    was: int
    now: int
    step: int
    rescheduled: list[str]


class _Folder(_Event):
    path: str | None
    replace: bool


_EVENTS: Mapping[str, type[_Event]] = {
    "exception": _Exception,
    "summary": _Summary,
    "resumed": _Resumed,
    "extended": _Extended,
    "folder": _Folder,
}


def event(moment: float, text: bytes) -> dict[str, Any]:
    """Parse an event.

    Args:
        moment: when it happened, in seconds since 1970.
        text: its JSON.

    Raises:
        ValueError: it is no JSON object with a kind, or lacks what an event of its kind has.
    """
    found = from_json(text)
    if not isinstance(found, dict):
        raise ValueError("/events: one is no object")
    found = {"time": moment, **found}
    kind = found.get("kind")
    try:
        _EVENTS.get(kind if isinstance(kind, str) else "", _Event).model_validate(found)
    except ValidationError as error:
        raise ValueError(f"/events: {_first(error)}") from None
    return found


def check_time(moment: float) -> float:
    """Check a time in seconds since 1970, and return it.

    Raises:
        ValueError: no clock could show this time.
    """
    if not 0 <= moment <= _LATEST:
        raise ValueError(f"/status: {moment} is no time")
    return moment


class Figures(BaseModel):
    """First, last, smallest and largest value of a column; texts and bools have no order."""

    model_config = ConfigDict(strict=True, extra="forbid", ser_json_inf_nan="constants")

    first: bool | int | float | str | None = None
    last: bool | int | float | str | None = None
    min: int | float | None = None
    max: int | float | None = None


class TableFigures(BaseModel):
    """Number of rows and figures of a table."""

    model_config = ConfigDict(strict=True, extra="forbid", ser_json_inf_nan="constants")

    rows: Annotated[int, Field(ge=0, lt=1 << 62)]
    columns: dict[str, Figures]


class Summary(BaseModel):
    """What lists show of a sealed log, so that none of its rows need be read.

    Args:
        run_id: of the run.
        command: the command's name.
        start_time: with its time zone.
        seed: the root seed.
        status: as last written.
        heartbeat: when the status was written, in seconds since 1970.
        step: the largest step; None without rows.
        note: how the run failed, if it did.
        tables: figures by table.
        config: as JSON; None in logs of older programs, like the next two.
        headline: the metric of `result`.
        result: its value at the last step.
    """

    # Fields that later programs add are ignored.
    model_config = ConfigDict(strict=True, extra="ignore", ser_json_inf_nan="constants")

    run_id: Annotated[Name, Field(min_length=1)]
    command: Text
    start_time: Moment
    seed: Whole
    status: Literal[STATUSES]  # type: ignore[valid-type]
    heartbeat: Time
    step: Whole | None
    note: Text
    tables: dict[str, TableFigures]
    config: Object | None = None
    headline: Headline | None = None
    result: float | None = None


def summary_from_json(text: bytes) -> Summary:
    """Parse a summary.

    Raises:
        ValueError: it is invalid.
    """
    try:
        return Summary.model_validate(from_json(text))
    except ValidationError as error:
        raise ValueError(f"/summary: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    """Describe the first mistake in one line, with the given value if that is short."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = "/".join(map(str, first["loc"]))
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    given = repr(first.get("input"))
    return f"{where}: {message}" + (f" ({given})" if len(given) <= 60 else "")
