"""The one printer of tables: what is in a cell steers no terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

Shortening = tuple[str, Literal["middle", "end"], int]
"""A column, which part its long cells lose, and how many letters they keep at least."""
_GAP = 2


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    title: str | None = None,
    shorten: Sequence[Shortening] = (),
) -> None:
    """Print a whole table to stdout; four digits.

    On a terminal the columns are padded, with numbers, and "-" for none, to the right. Elsewhere
    the cells are whole, with a tab between two.

    Args:
        columns: the headings.
        rows: one value a column.
        title: a line above.
        shorten: what may be shortened, one after the other, where a terminal is too narrow.
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
    """Shorten cells of a column so that a line of the table fits, if that is enough."""
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    most = max(widths[place] - max(excess, 0), least, len(heads[place]))
    for row in cells:
        row[place] = shortened(row[place], most, part)


def shortened(text: str, most: int, part: str = "middle") -> str:
    """Take the middle or the end out of a text that is longer than so many letters."""
    if len(text) <= most:
        return text
    kept = (most - 1) * 2 // 3 if part == "middle" else 0
    return f"{text[: most - 1 - kept]}…{text[len(text) - kept :]}"


class RowTable:
    """A table that grows by one line at a time, for rows that come in slowly."""

    def __init__(self, columns: Mapping[str, str], quiet: bool = False) -> None:
        """Choose the columns; the heading is printed with the first row.

        Args:
            columns: heading and format of each, e.g. {"epoch": "d", "test error": ".2f"}.
            quiet: print nothing.
        """
        self._columns = dict(columns)
        self._quiet = quiet
        self._started = False

    def row(self, *values: Any) -> None:
        """Print one row, a value a column."""
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
    """Write what would end the line or steer the terminal as an escape: a name can hold it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
