"""The one printer of tables: what is in a cell steers no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Print a whole table to stdout; numbers, and "-" for none, to the right; four digits.

    Args:
        columns: the headings.
        rows: one value a column.
        title: a line above.
    """
    rows = [list(row) for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[i], int | float) or row[i] == "-" for row in rows)
        for i in range(len(columns))
    ]
    if title:
        print(title)
    heads = [visible(name) for name in columns]
    cells = [[_cell(value) for value in row] for row in rows]
    width = None if sys.stdout.isatty() else 1000
    if width and _print_plain(heads, cells, numeric, width):
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for name, right in zip(heads, numeric, strict=True):
        shown.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in cells:
        shown.add_row(*row)
    Console(file=sys.stdout, width=width, highlight=False, markup=False).print(shown)


def _print_plain(
    heads: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], width: int
) -> bool:
    """Print a table as rich does, in a hundredth of its time; False if a line would be too long."""
    columns = list(zip(heads, *cells, strict=True))
    if not all(cell.isascii() for column in columns for cell in column):
        return False
    widths = [max(map(len, column)) for column in columns]
    if sum(widths) + 2 * len(widths) > width:
        return False
    padded = [
        [cell.rjust(n) if right else cell.ljust(n) for cell in column]
        for column, n, right in zip(columns, widths, numeric, strict=True)
    ]
    print("\n".join("  ".join(line) for line in zip(*padded, strict=True)))
    return True


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
