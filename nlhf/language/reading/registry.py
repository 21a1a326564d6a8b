"""All layouts, and recognition of a row's layout."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache

from nlhf.language.reading import layouts
from nlhf.language.reading.layout import Layout
from nlhf.language.reading.rows import Refused, Row, malformed


@cache
def all_layouts() -> tuple[Layout, ...]:
    """Find the layouts: `LAYOUT` of every file in `nlhf.language.reading.layouts`."""
    names = sorted(info.name for info in pkgutil.iter_modules(layouts.__path__))
    modules = [importlib.import_module(f"{layouts.__name__}.{name}") for name in names]
    return tuple(module.LAYOUT for module in modules)


def recognise(row: Row, among: Sequence[Layout]) -> tuple[Layout, Row]:
    """Find the layout of a row: of those whose keys the row all has, the one with most keys.

    Args:
        row: any row.
        among: the candidate layouts; the first of equals wins.

    Returns:
        The layout and the row. If nothing fits otherwise, empty cells of a table become empty
        texts.

    Raises:
        Refused: no layout fits; the message says what the nearest one lacks.
    """
    ranks = [(rank, layout) for layout in among if (rank := layout.rank(row)) is not None]
    if ranks:
        return max(ranks, key=lambda found: found[0])[1], row
    near = _nearest(row, among)
    if row.untyped and len(near.missing(row)) < len(near.needs):
        filled = row.filled(near.needs)
        if near.rank(filled) is not None:
            return near, filled
    raise _lacking(row, near)


def _nearest(row: Row, among: Sequence[Layout]) -> Layout:
    """The layout of which a row has most keys; of several, one that keys tell, with the fewest."""

    def nearness(each: Layout) -> tuple[int, bool, bool, int]:
        has = len(each.needs) - len(each.missing(row))
        return has, each.asks, each.fits is None, -len(each.needs)

    return max(among, key=nearness)


def _lacking(row: Row, near: Layout) -> Refused:
    lacks = near.missing(row)
    if len(lacks) == len(near.needs):
        why = row.missing(lacks[0]).why
        reason = f"{why}; give {near.shown}, or another layout of docs/preference-data.md"
        return malformed(lacks[0], reason)
    if not lacks:
        return malformed(near.needs[-1][0], f"no {near.name}; give {near.shown}")
    flaw = row.missing(lacks[0])
    return malformed(flaw.key, f"{flaw.why}; taken for {near.name} ({near.shown})")
