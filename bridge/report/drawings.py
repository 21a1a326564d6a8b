"""Drawings other than curves: intervals of items, a heat map of pairs, and a graph of cycles.

They use the page's style sheet: real text, colours by class, sharp at any size and in print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from bridge.report.scale import scale

_ROW, _TEXT, _WIDTH = 20, 11.5, 720
_NAME = 26
_MOST_CELLS = 40


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot: a value with its interval, and a note; NaN is not drawn."""

    name: str
    value: float
    low: float
    high: float
    note: str = ""


def forest(rows: Sequence[Interval], label: str, zero: bool = True) -> str:
    """Draw a forest plot: one row per value, with its interval.

    Args:
        rows: from top to bottom.
        label: of the horizontal axis.
        zero: whether the axis includes zero.
    """
    numbers = np.array([[r.value, r.low, r.high] for r in rows], dtype=float)
    finite = numbers[np.isfinite(numbers)]
    across = scale(np.append(finite, [0.0] if zero else []), False)
    left, right = 190, 90
    height = _ROW * len(rows) + 44

    def x(value: float) -> float:
        if math.isinf(value):
            return left if value < 0 else _WIDTH - right
        place = float(np.clip(across(np.array([value]))[0], 0, 1))
        return left + place * (_WIDTH - left - right)

    bottom = height - 38
    parts = []
    for tick, text in zip(across.ticks, across.texts, strict=True):
        parts.append(f'<path class="grid" d="M{x(tick):.1f} 6V{bottom}"/>')
        parts.append(
            f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
        )
    middle = (left + _WIDTH - right) / 2
    parts.append(
        f'<text class="label" x="{middle:g}" y="{height - 4}" text-anchor="middle">'
        f"{escape(label)}</text>"
    )
    for n, row in enumerate(rows):
        y = 6 + _ROW * (n + 0.5)
        parts.append(_text(left - 8, y + 4, _short(row.name), "end", row.name))
        parts.append(_text(_WIDTH - right + 10, y + 4, row.note, "start"))
        if not math.isfinite(row.value):
            continue
        low, high = (e if not math.isnan(e) else row.value for e in (row.low, row.high))
        tooltip = f"{row.name}: {row.value:.3g} [{row.low:.3g}, {row.high:.3g}]"
        parts.append(
            f'<g><title>{escape(tooltip)}</title><path class="line c0" d="M{x(low):.1f} {y:.1f}'
            f'H{x(high):.1f}"/><circle class="line c0" cx="{x(row.value):.1f}" cy="{y:.1f}" '
            'r="3.5"/></g>'
        )
    return _svg(_WIDTH, height, label, parts)


def heat_map(names: Sequence[str], shares: NDArray[np.float64], counts: NDArray[np.float64]) -> str:
    """Draw the win rates of row against column, with the number of battles in each cell.

    Args:
        names: K of them, the best first; if there are many, only the first are drawn.
        shares: P(row > column), [K, K].
        counts: battles of each pair, [K, K]; the cell of a pair with NaN or 0 stays empty.
    """
    k = min(len(names), _MOST_CELLS)
    size = max(16, min(46, 660 // max(k, 1)))
    left = top = 150
    parts = []
    for i in range(k):
        y = top + size * (i + 0.5)
        parts.append(_text(left - 6, y + 4, _short(names[i], 20), "end", names[i]))
        x = left + size * (i + 0.5)
        parts.append(
            f'<text x="{x:g}" y="{top - 6}" transform="rotate(-60 {x:g} {top - 6})">'
            f"{escape(_short(names[i], 20))}</text>"
        )
        for j in range(k):
            if i != j:
                parts += _cell(names, i, j, shares[i, j], counts[i, j], left, top, size)
    side = size * k
    return _svg(left + side + 70, top + side + 10, "win rates", parts)


def _cell(
    names: Sequence[str],
    i: int,
    j: int,
    share: float,
    count: float,
    left: int,
    top: int,
    size: int,
) -> list[str]:
    x, y = left + size * j, top + size * i
    counted = "number of battles unknown" if math.isnan(count) else f"{count:,.10g} battles"
    if count == 0 or math.isnan(share):
        tooltip, share = f"{names[i]} against {names[j]}: never compared", 0.5
    else:
        tooltip = f"{names[i]} against {names[j]}: {share:.3f}, {counted}"
    # blue if the row wins, orange if it loses; both are distinct on screen and in print
    kind, strength = ("c0" if share > 0.5 else "c1"), min(abs(share - 0.5) * 1.8, 0.9)
    parts = [
        f'<g><title>{escape(tooltip)}</title><rect class="heat {kind}" x="{x}" y="{y}" '
        f'width="{size - 1}" height="{size - 1}" fill-opacity="{strength:.3f}"/>'
    ]
    if size >= 30 and count != 0:
        parts.append(
            f'<text x="{x + size / 2:g}" y="{y + size / 2 - 1:g}" text-anchor="middle">'
            f"{share:.2f}</text>"
        )
        if not math.isnan(count):
            parts.append(
                f'<text class="label" x="{x + size / 2:g}" y="{y + size / 2 + 11:g}" '
                f'text-anchor="middle">{count:.4g}</text>'
            )
    return [*parts, "</g>"]


@dataclass(frozen=True)
class Edge:
    """An arrow from one item to another that it beats, with its probability."""

    start: int
    end: int
    probability: float


def graph(names: Sequence[str], edges: Sequence[Edge], mark: str = "arrow") -> str:
    """Draw items on a circle with arrows from winner to loser; the more certain, the darker.

    `mark` is the id of the arrowhead, which must be unique on a page.
    """
    n, radius, middle = len(names), 120, (_WIDTH / 2, 165)
    places = [
        (
            middle[0] + radius * math.sin(2 * math.pi * i / max(n, 1)),
            middle[1] - radius * math.cos(2 * math.pi * i / max(n, 1)),
        )
        for i in range(n)
    ]
    parts = [
        f'<defs><marker id="{mark}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="arrow" d="M0 0L8 4L0 8Z"/></marker></defs>'
    ]
    for edge in edges:
        (x1, y1), (x2, y2) = places[edge.start], places[edge.end]
        length = max(math.hypot(x2 - x1, y2 - y1), 1e-9)
        dx, dy = 12 * (x2 - x1) / length, 12 * (y2 - y1) / length
        tooltip = (
            f"{names[edge.start]} beats {names[edge.end]} in {edge.probability:.1%} of resamples"
        )
        parts.append(
            f'<g><title>{escape(tooltip)}</title><path class="line c1" marker-end="url(#{mark})" '
            f'opacity="{0.15 + 0.85 * edge.probability:.2f}" d="M{x1 + dx:.1f} {y1 + dy:.1f}'
            f'L{x2 - dx:.1f} {y2 - dy:.1f}"/></g>'
        )
    for name, (x, y) in zip(names, places, strict=True):
        anchor = "middle" if abs(x - middle[0]) < 5 else "start" if x > middle[0] else "end"
        shift = 0 if anchor == "middle" else 10 if anchor == "start" else -10
        rise = -12 if y < middle[1] - 60 else 20 if y > middle[1] + 60 else 4
        parts.append(f'<circle class="line c0" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        parts.append(_text(x + shift, y + rise, _short(name), anchor, name))
    return _svg(_WIDTH, 330, "cycles", parts)


def _short(name: str, most: int = _NAME) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _text(x: float, y: float, text: str, anchor: str, whole: str = "") -> str:
    title = f"<title>{escape(whole)}</title>" if whole != text and whole else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{title}{escape(text)}</text>'


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="still" viewBox="0 0 {width:g} {height:g}" role="img" '
        # its text is neither too small on a phone nor too large on a wide screen
        f'style="min-width:{0.7 * width:.0f}px;max-width:{1.2 * width:.0f}px" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
