"""A panel as an inline SVG drawing: sharp at any size, with real text.

Colours are classes c0, c1, ... of the page's style sheet, so that they follow its dark mode and its
print style; dashes distinguish lines without colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bridge.report.panels import Line, Panel, styles
from bridge.report.scale import Scale, scale

WIDTH, HEIGHT = 420, 270
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 8, 38
DASHES = ("", "7 3", "8 3 2 3", "2 3", "12 3", "8 3 2 3 2 3", "1 2")
COLOURS = 8


def drawing(panel: Panel) -> str:
    """Draw a panel as an svg element.

    Each line has the attribute data-line, its index in the panel.
    """
    across, up = _scales(panel)
    parts = [*_grid(across, up), *_axis_texts(across, up)]
    parts.append(
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 4}" '
        f'text-anchor="middle">{escape(panel.x_label)}</text>'
    )
    numbered = list(enumerate(zip(panel.lines, styles(panel.lines), strict=True)))
    # Runs first, so that means and their bands are on top.
    for n, (line, style) in sorted(numbered, key=lambda each: not each[1][0].faint):
        parts += _line(n, line, style, across, up)
    parts.append(f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="-9" x2="-9"/>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(panel.title)} over '
        f'{escape(panel.x_label)}">{"".join(parts)}</svg>'
    )


def placing(panel: Panel) -> dict[str, Any]:
    """Describe how the horizontal axis maps numbers, for the page's script."""
    across, _ = _scales(panel)
    place = {"width": WIDTH, "left": LEFT, "length": WIDTH - LEFT - RIGHT}
    return {"low": across.low, "high": across.high, "log": across.logarithmic, **place}


def sample(style: int) -> str:
    """Draw the sample of a line for a legend."""
    return (
        f'<svg class="sample" viewBox="0 0 28 8" aria-hidden="true"><line x1="1" y1="4" x2="27" '
        f'y2="4" {_look(style)}/></svg>'
    )


def _scales(panel: Panel) -> tuple[Scale, Scale]:
    ys = [
        np.ravel(v) for line in panel.lines for v in (line.y, line.low, line.high) if v is not None
    ]
    xs = [np.ravel(line.x) for line in panel.lines]
    return (
        scale(np.concatenate(xs or [np.empty(0)]), panel.x_logarithmic, margin=0.0),
        scale(np.concatenate(ys or [np.empty(0)]), panel.logarithmic),
    )


def _x(places: NDArray[Any]) -> NDArray[Any]:
    return LEFT + places * (WIDTH - LEFT - RIGHT)


def _y(places: NDArray[Any]) -> NDArray[Any]:
    # Values below a logarithmic axis, such as the low end of a band, end at its bottom.
    return HEIGHT - BOTTOM - np.clip(places, 0, 1) * (HEIGHT - TOP - BOTTOM)


def _grid(across: Scale, up: Scale) -> list[str]:
    lines = [
        f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        for y in _y(up(up.ticks)).tolist()
    ]
    lines += [
        f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        for x in _x(across(across.ticks)).tolist()
    ]
    return lines


def _axis_texts(across: Scale, up: Scale) -> list[str]:
    return [
        f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        for y, text in zip(_y(up(up.ticks)).tolist(), up.texts, strict=True)
    ] + [
        f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{text}</text>'
        for x, text in zip(_x(across(across.ticks)).tolist(), across.texts, strict=True)
    ]


def _line(n: int, line: Line, style: int, across: Scale, up: Scale) -> list[str]:
    x, y = (np.asarray(each, float) for each in (line.x, line.y))
    parts = []
    if line.low is not None and line.high is not None:
        low, high = (np.asarray(each, float) for each in (line.low, line.high))
        parts += [
            f'<path class="band c{style % COLOURS}" data-line="{n}" d="{outline}"/>'
            for outline in _outlines(x, low, high, across, up)
        ]
    places = np.stack([_x(across(x)), _y(up(y))], axis=1)
    look = _look(style, faint=line.faint)
    if len(places) == 1 and np.isfinite(places).all():
        px, py = places[0].tolist()
        radius = 1.5 if line.faint else 3.5
        return [
            *parts,
            f'<circle {look} data-line="{n}" cx="{px:.1f}" cy="{py:.1f}" r="{radius}"/>',
        ]
    return [*parts, f'<path {look} data-line="{n}" d="{_trace(places)}"/>']


def _trace(places: NDArray[Any]) -> str:
    """Connect points by straight lines, interrupted where one is missing."""
    parts, pen = [], "M"
    for x, y in places.tolist():
        if x != x or y != y:
            pen = "M"
            continue
        parts.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(parts)


def _outlines(
    x: NDArray[Any], low: NDArray[Any], high: NDArray[Any], across: Scale, up: Scale
) -> list[str]:
    """Give the outline of each uninterrupted stretch of a band."""
    if up.logarithmic:
        low = np.where(np.isfinite(low), np.maximum(low, up.low), np.nan)
    right = _x(across(x))
    bottom, top = _y(up(low)), _y(up(high))
    whole = np.isfinite(right) & np.isfinite(bottom) & np.isfinite(top)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], whole.astype(int), [0]])))
    outlines = []
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        part = slice(start, stop)
        there = np.stack([right[part], top[part]], axis=1)
        back = np.stack([right[part], bottom[part]], axis=1)[::-1]
        outlines.append(_trace(np.concatenate([there, back])) + "Z")
    return outlines


def _look(style: int, faint: bool = False) -> str:
    dash = DASHES[style % len(DASHES)]
    kind = "faint" if faint else "line"
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'class="{kind} c{style % COLOURS}"{dashes}'


def values(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Give the points of lines as JSON values; none for faint lines."""
    return [
        {
            name: [] if line.faint else _rounded(getattr(line, name))
            for name in ("x", "y", "low", "high")
        }
        for line in lines
    ]


def _rounded(numbers: ArrayLike | None) -> list[float | None]:
    given = [] if numbers is None else np.asarray(numbers, float).tolist()
    return [float(f"{n:.7g}") if np.isfinite(n) else None for n in given]
