"""A sheet: named columns of text from any kind of file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nlhf.errors import InputError


@dataclass(frozen=True)
class Sheet:
    """Columns of text; an empty text is a missing value.

    Attributes:
        source: the file, or the name of a Python object in messages.
        form: the file format, e.g. "CSV with ;".
        header: unique column names; only the first may be "".
        columns: the texts of each column, one per row.
        lines: the line of the file on which each row ends, or None if rows have no lines.
        decimal_comma: whether 0,5 is a number.
    """

    source: str
    form: str
    header: tuple[str, ...]
    columns: tuple[Sequence[str], ...]
    lines: Sequence[int] | None = None
    decimal_comma: bool = False

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.columns[0]) if self.columns else 0

    def column(self, name: str) -> Sequence[str]:
        """The texts of one column."""
        return self.columns[self.header.index(name)]

    def where(self, row: int) -> str:
        """Describe the position of a row."""
        return f"{self.source}:{self.lines[row]}" if self.lines else f"{self.source}: row {row + 1}"

    def number(self, text: str) -> float | None:
        """Parse a number, which may be NaN; None if the text is not a number."""
        if self.decimal_comma and "." not in text:
            text = text.replace(",", ".")
        try:
            # only Python accepts "1_000" as a number
            return None if "_" in text else float(text)
        except ValueError:
            return None


def make_sheet(
    source: str,
    form: str,
    header: Sequence[str],
    columns: Sequence[Sequence[str]],
    lines: Sequence[int] | None = None,
    decimal_comma: bool = False,
) -> Sheet:
    """Build a sheet from texts that are already stripped.

    Raises:
        InputError: a column other than the first has no name, a name is repeated, or no rows.
    """
    names = [name.strip() for name in header]
    twice = next((n for n in names if n and names.count(n) > 1), None)
    if twice is not None:
        raise InputError(f"{source}: {form} with two columns {twice!r}; give each its own name")
    if "" in names[1:]:
        place = names.index("", 1) + 1
        raise InputError(f"{source}: {form} whose column {place} has no name in the header")
    if not columns or not len(columns[0]):
        raise InputError(f"{source}: {form} with a header ({_few(names)}) and no battles below it")
    return Sheet(source, form, tuple(names), tuple(columns), lines, decimal_comma)


def cell(value: object) -> str:
    """Format a value as text: None and NaN become empty, whole floats lose their decimal point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    # pandas has its own missing values
    return "" if type(value).__name__ in ("NAType", "NaTType") else str(value).strip()


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
