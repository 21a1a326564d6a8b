"""Print tables; no text in a cell can control the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

Shortening = tuple[str, Literal["middle", "end"], int]
"""A column, which part of its long cells is cut, and how many characters they keep at least."""
_GAP = 2


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    title: str | None = None,
    shorten: Sequence[Shortening] = (),
) -> None:
    """Print a whole table to stdout; numbers have four digits.

    On a terminal the columns are padded, and numbers, and "-" for none, are right-aligned.
    Elsewhere the cells are not shortened and are separated by tabs.

    Args:
        columns: the headings.
        rows: one value per column.
        title: a line above the table.
        shorten: the columns to shorten, in this order, if the terminal is too narrow.
    """
    rows = [list(row) for row in rows]
    numeric = [
        any(row[i] is not None for row in rows)
        and all(isinstance(row[i], int | float | None) or row[i] == "-" for row in rows)
        for i in range(len(columns))
    ]
    if title:
        print(title)
    heads = [visible(name) for name in columns]
    cells = [[_cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        print("\n".join("\t".join(line) for line in [heads, *cells]))
        return
    width = shutil.get_terminal_size().columns
    for name, part, least in shorten:
        _shorten(heads, cells, columns.index(name), part, least, width)
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for name, right in zip(heads, numeric, strict=True):
        shown.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in cells:
        shown.add_row(*row)
    Console(file=sys.stdout, width=width, highlight=False, markup=False).print(shown)


def _shorten(
    heads: Sequence[str],
    cells: Sequence[list[str]],
    place: int,
    part: str,
    least: int,
    width: int,
) -> None:
    """Shorten the cells of a column so that the table's lines fit, if that is enough."""
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    most = max(widths[place] - max(excess, 0), least, len(heads[place]))
    for row in cells:
        row[place] = shortened(row[place], most, part)


def shortened(text: str, most: int, part: str = "middle") -> str:
    """Cut the middle or the end out of a text that is longer than so many characters."""
    if len(text) <= most:
        return text
    kept = (most - 1) * 2 // 3 if part == "middle" else 0
    return f"{text[: most - 1 - kept]}…{text[len(text) - kept :]}"


class RowTable:
    """A table that grows line by line, for rows that arrive slowly."""

    def __init__(self, columns: Mapping[str, str], quiet: bool = False) -> None:
        """Set the columns; the heading is printed with the first row.

        Args:
            columns: heading and number format, e.g. {"epoch": "d", "test error": ".2f"}.
            quiet: print nothing.
        """
        self._columns = dict(columns)
        self._quiet = quiet
        self._started = False

    def row(self, *values: Any) -> None:
        """Print one row, one value per column."""
        if self._quiet:
            return
        widths = [max(len(name), 8) for name in self._columns]
        if not self._started:
            print("  ".join(f"{n:>{w}}" for n, w in zip(self._columns, widths, strict=True)))
            self._started = True
        cells = [format(v, f) for v, f in zip(values, self._columns.values(), strict=True)]
        print("  ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)), flush=True)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else visible(str(value))


def visible(text: str) -> str:
    """Escape characters that would end the line or control the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
