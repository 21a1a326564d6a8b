"""One row of a source with normalised keys, and the exception that rejects a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nlhf.preferences.reading.headers import plain
from nlhf.preferences.reading.records import kind

TOOLS = ("tools", "tool_calls", "functions", "function_call")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
_NOTHING = ("", "[]", "{}", "null", "none", "nan")


class Refused(Exception):
    """A row that cannot be used.

    Attributes:
        key: the key at fault.
        why: the reason, in words.
        malformed: whether the row violates its layout, rather than being merely unusable.
        empty: whether the reason is an empty value.
    """

    def __init__(
        self,
        key: str,
        why: str,
        *,
        malformed: bool = False,
        empty: bool = False,
    ) -> None:
        """Store the reason."""
        super().__init__(f"{key}: {why}")
        self.key, self.why = key, why
        self.malformed, self.empty = malformed, empty


def malformed(key: str, why: str) -> Refused:
    """The exception for a row that violates its layout."""
    return Refused(key, why, malformed=True)


class Row:
    """The values of a row by normalised keys: lower case, words joined by underscores.

    `Chosen`, `responseA` and `chosen-rating` become `chosen`, `response_a` and `chosen_rating`. A
    null value counts as missing.
    """

    def __init__(self, values: Mapping[str, Any], untyped: bool = False) -> None:
        """Take the values; if they are `untyped` texts, empty ones count as null."""
        self.values: dict[str, Any] = {}
        self.nulls: list[str] = []
        self.untyped = untyped
        for name, value in sorted(values.items(), key=lambda item: not str(item[0]).islower()):
            key = plain(str(name)).replace(" ", "_")
            if _null(value) or (untyped and value == ""):
                self.nulls.append(key)
            else:
                self.values.setdefault(key, value)
        self.names = list(map(str, values))

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def filled(self, needs: Sequence[Sequence[str]]) -> Row:
        """A copy with empty texts for required keys that are null; each item lists alternatives."""
        found = Row({}, self.untyped)
        found.values, found.nulls, found.names = dict(self.values), self.nulls, self.names
        for names in needs:
            null = next((name for name in names if name in self.nulls), None)
            if self.one(names) is None and null is not None:
                found.values[null] = ""
        return found

    def one(self, names: Sequence[str]) -> str | None:
        """The first of the given keys that the row has."""
        return next((name for name in names if name in self.values), None)

    def value(self, *names: str) -> Any:
        """The value of the first of the given keys that the row has.

        Raises:
            Refused: the row has none of them.
        """
        found = self.one(names)
        if found is None:
            raise self.missing(names[0])
        return self.values[found]

    def missing(self, key: str) -> Refused:
        """The exception for a missing key."""
        if key in self.nulls:
            return malformed(key, "null; give a value, or leave the line out")
        names = [" ".join(name.split())[:40] for name in self.names[:12]]
        return malformed(key, f"missing; the line has {', '.join(names) or 'no keys'}")

    def text(self, *names: str) -> str | None:
        """The text of the first given key that the row has; None if there is none or it is blank.

        Raises:
            Refused: the value is not text.
        """
        found = self.one(names)
        if found is None:
            return None
        value = self.values[found]
        if not isinstance(value, str):
            raise malformed(found, f"must be text, not {kind(value)}")
        return value if value.strip() else None

    def number(self, *names: str) -> float | None:
        """The number of the first of the given keys that the row has; None if it has none.

        Raises:
            Refused: the value is not a finite number.
        """
        found = self.one(names)
        return None if found is None else number(self.values[found], found)

    def check_text_only(self) -> None:
        """Raise if a row has tools, images, audio or video.

        Raises:
            Refused: the row has any of these.
        """
        for names, what in ((TOOLS, "tools"), (MEDIA, "images, sound or video")):
            for name in names:
                if name in self.values and _something(self.values[name]):
                    raise Refused(name, f"{what} are not read, only text")


def number(value: object, key: str) -> float:
    """Convert a value, possibly text, to a number.

    Raises:
        Refused: it is not a finite number.
    """
    try:
        if value == "":
            raise malformed(key, "empty; give a number, or leave the line out")
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        found = float(value)
        if not math.isfinite(found) or "_" in str(value):
            raise ValueError
    except (ValueError, OverflowError):
        shown = repr(value) if isinstance(value, int | float | str | bool) else kind(value)
        raise malformed(key, f"{shown[:40]} must be a number") from None
    return found


def _null(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _something(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in _NOTHING
    return bool(value)
