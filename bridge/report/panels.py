"""Panels of curves, dots or images, distinguished by colour and dash and named at their ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bridge.report import style
from bridge.report.policies import check_drawing, check_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

_WIDTH, _HEIGHT, _MORE = 3.6, 3.0, 1.2
"""Size of a panel without the names on its right, in inches; and the width added without them."""
_LONGEST, _MOST = 30, 16
"""Length of a name, and number of names, above which a legend below is used instead."""


@dataclass(frozen=True)
class Line:
    """A curve, with a band from `low` to `high` if both are given.

    Args:
        label: its name.
        x, y: its points; NaN interrupts it.
        low, high: limits of the band at each point; NaN interrupts it.
        style: number of its colour and dash style; by default its index in the panel.
        faint: draw it thin and without a label, as one of several runs behind their mean.
        points: draw markers that are not connected.
        mark: matplotlib's name of the marker.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    style: int | None = None
    faint: bool = False
    points: bool = False
    mark: str = "|"


@dataclass(frozen=True)
class Panel:
    """Curves on common axes.

    Args:
        title: what the panel shows.
        x_label: the horizontal quantity.
        lines: the curves.
        logarithmic: whether the vertical axis is logarithmic; values <= 0 are then not drawn.
        x_logarithmic: whether the horizontal axis is logarithmic.
        name: short and unique, for a file name.
        note: what a reader must know to read it correctly.
        y_label: the quantity and its unit; by default the title. Panels of a figure with the same
            y_label have the same vertical axis, so that they can be compared by eye.
        references: heights of horizontal lines, and their meanings.
        events: positions of vertical lines, and what happens there.
        categories: names of the positions 0, 1, ... of a categorical horizontal axis.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    logarithmic: bool = False
    x_logarithmic: bool = False
    name: str = ""
    note: str = ""
    y_label: str = ""
    references: Sequence[tuple[float, str]] = ()
    events: Sequence[tuple[float, str]] = ()
    categories: Sequence[str] = ()


@dataclass(frozen=True)
class Images:
    """Arrays as small images side by side, on one colour scale about zero.

    Args:
        title: what the panel shows.
        arrays: [N, height, width].
        label: the quantity.
    """

    title: str
    arrays: NDArray[np.float64]
    label: str


def styles(lines: Sequence[Line]) -> list[int]:
    """Give the number of each line's style: its own, or its index."""
    return [i if line.style is None else line.style for i, line in enumerate(lines)]


def over_runs(label: str, x: ArrayLike, runs: ArrayLike, number: int | None = None) -> Line:
    """Make the line of several runs: their mean, with a band from the smallest to the largest.

    Args:
        label: its name.
        x: [N] positions.
        runs: [R, N]; NaN where a run has no number.
        number: of its style.

    Returns:
        A line that is interrupted where no run has a number, and has no band for a single run.

    Examples:
        >>> line = over_runs("a", [0, 1], [[1.0, 2.0], [3.0, float("nan")]])
        >>> line.y.tolist(), line.low.tolist(), line.high.tolist()
        ([2.0, 2.0], [1.0, 2.0], [3.0, 2.0])
    """
    values = np.asarray(runs, float)
    known = [column[np.isfinite(column)] for column in values.T]
    mean, low, high = (
        np.array([of(column) if len(column) else np.nan for column in known])
        for of in (np.mean, np.min, np.max)
    )
    if len(values) == 1:
        return Line(label, x, mean, style=number)
    return Line(label, x, mean, low, high, number)


def caption_of_runs(runs: int, what: str = "seed") -> str:
    """Explain the lines and bands of `over_runs`, for a figure's caption."""
    return f"one {what}" if runs == 1 else f"lines: mean of {runs} {what}s; bands: their range"


def draw_panels(
    path: Path, panels: Sequence[Panel | Images], columns: int = 2, caption: str = ""
) -> None:
    """Draw panels in rows and write a PNG, SVG or PDF according to the file name.

    Args:
        path: the picture.
        panels, columns, caption: see `drawn`.

    Raises:
        InputError: see `check_picture`.
        StorageError: the picture cannot be written.
    """
    check_picture(path, overwrite=True)
    style.save(drawn(panels, columns, caption=caption), path)


def drawn(
    panels: Sequence[Panel | Images],
    columns: int = 2,
    option: str = "--plot",
    caption: str = "",
) -> Figure:
    """Draw panels in rows, as a matplotlib figure.

    Lines are named at their ends. If the names are long or many, or belong to points, a legend
    below the panels names them.

    Args:
        panels: what to draw.
        columns: panels per row.
        option: the option that asks for the figure, for messages.
        caption: a text below all panels; by default the note of a single panel.

    Raises:
        InputError: matplotlib is not installed.
    """
    check_drawing(option)
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    curves = [panel for panel in panels if isinstance(panel, Panel)]
    direct = all(map(_direct, curves))
    longest = max((len(line.label) for p in curves for line, _ in _named(p)), default=0)
    width = _WIDTH + (longest * 0.6 * style.SIZE / 72 if direct else _MORE)
    figure = style.new_figure(rows, columns, width, _HEIGHT)
    axes = np.atleast_1d(np.asarray(figure.subplots(rows, columns))).ravel().tolist()
    for axis, panel in zip(axes, panels, strict=False):
        _draw_images(axis, panel) if isinstance(panel, Images) else _draw(axis, panel)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    pairs = [(a, p) for a, p in zip(axes, panels, strict=False) if isinstance(p, Panel)]
    _finish(pairs)
    alone = curves[0].note if len(panels) == len(curves) == 1 else ""
    legend = None if direct else _legend(figure, pairs)
    style.caption(figure, caption or alone, legend)
    style.label_ends(figure, [(axis, _ends(axis, panel, direct)) for axis, panel in pairs])
    return figure


def _named(panel: Panel) -> list[tuple[Line, int]]:
    """Lines that a reader must be able to distinguish, with the numbers of their styles."""
    obvious = {"", panel.title, panel.y_label}
    numbered = zip(panel.lines, styles(panel.lines), strict=True)
    return [(line, n) for line, n in numbered if not line.faint and line.label not in obvious]


def _direct(panel: Panel) -> bool:
    """Whether there is room to name lines at their ends."""
    named = _named(panel)
    short = all(len(line.label) <= _LONGEST and not line.points for line, _ in named)
    return short and len(named) + len(panel.references) <= _MOST


def _draw(axis: Axes, panel: Panel) -> None:
    for line, number in zip(panel.lines, styles(panel.lines), strict=True):
        _draw_line(axis, line, number)
    for height, _ in panel.references:
        axis.axhline(height, color=style.GREY, linewidth=0.9, zorder=1)
    for place, text in panel.events:
        style.mark_event(axis, place, text)
    title = panel.title if panel.y_label else ""
    style.dress(axis, title, panel.x_label, panel.y_label or panel.title)
    if panel.logarithmic and any(_positive(line.y) for line in panel.lines):
        axis.set_yscale("log")
    if panel.x_logarithmic and any(_positive(line.x) for line in panel.lines):
        axis.set_xscale("log")


def _positive(values: ArrayLike) -> bool:
    """Whether a logarithmic axis has anything to show."""
    return bool((np.asarray(values, float) > 0).any())


def _draw_line(axis: Axes, line: Line, number: int) -> None:
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    colour = style.COLOURS[number % len(style.COLOURS)]
    dash = style.DASHES[number % len(style.DASHES)]
    if line.faint:
        alone = "." if x.size == 1 else None
        axis.plot(x, y, color=colour, linestyle=dash, linewidth=0.6, alpha=0.5, marker=alone)
        return
    if line.points:
        size = 2 if line.mark == "|" else 5.5
        axis.plot(x, y, line.mark, color=colour, label=line.label, markersize=size, clip_on=False)
        return
    marker = style.MARKERS[number % len(style.MARKERS)] if x.size <= style.FEW else None
    look: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": style.LINE}
    axis.plot(x, y, label=line.label, marker=marker, markersize=4.5, **look)
    if line.low is not None and line.high is not None:
        low, high = (np.asarray(each, float) for each in (line.low, line.high))
        axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def _draw_images(axis: Axes, panel: Images) -> None:
    """Arrange images in a grid that is as nearly square as possible."""
    n, height, width = panel.arrays.shape
    columns = math.ceil(math.sqrt(n * height / width))
    rows = math.ceil(n / columns)
    tiles = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for k, array in enumerate(panel.arrays):
        top, left = k // columns * (height + 1), k % columns * (width + 1)
        tiles[top : top + height, left : left + width] = array
    finite = np.abs(panel.arrays[np.isfinite(panel.arrays)])
    most = float(np.quantile(finite, 0.998)) if len(finite) else 1.0
    shown = axis.imshow(tiles, cmap="RdBu_r", vmin=-most or -1, vmax=most or 1)
    style.dress(axis, panel.title, "", "")
    axis.set_axis_off()
    beside = axis.inset_axes((1.03, 0.1, 0.045, 0.8))
    bar = axis.get_figure(root=True).colorbar(shown, cax=beside)  # type: ignore[union-attr]
    bar.set_label(panel.label, fontsize=style.SIZE)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=style.SIZE - 0.5)
    style.tick(bar.ax.yaxis, np.empty(0))


def _finish(pairs: Sequence[tuple[Axes, Panel]]) -> None:
    """Set the limits, equal for panels that are compared, and the ticks."""
    compared: dict[tuple[str, bool], list[Axes]] = {}
    for n, (axis, panel) in enumerate(pairs):
        compared.setdefault((panel.y_label or str(n), panel.logarithmic), []).append(axis)
    for axes in compared.values():
        limits = np.array([axis.get_ylim() for axis in axes])
        for axis in axes:
            axis.set_ylim(limits.min(), limits.max())
    for axis, panel in pairs:
        style.tick(axis.yaxis, np.empty(0))
        if panel.categories:
            tilt = 35 if sum(map(len, panel.categories)) > 40 else 0
            axis.set_xticks(range(len(panel.categories)), panel.categories, rotation=tilt,
                            ha="right" if tilt else "center")  # fmt: skip
            axis.set_xlim(-0.6, len(panel.categories) - 0.4)
            continue
        axis.margins(x=0.02)
        places = [np.ravel(np.asarray(line.x, float)) for line in panel.lines if not line.points]
        style.tick(axis.xaxis, np.unique(np.concatenate(places or [np.empty(0)])))


def _ends(axis: Axes, panel: Panel, direct: bool) -> list[style.End]:
    """Give the labels at the right of a panel: its references, and its lines if not in a legend."""
    ends = []
    for line, number in _named(panel) if direct else []:
        x, y = np.ravel(np.asarray(line.x, float)), np.ravel(np.asarray(line.y, float))
        there = np.flatnonzero(np.isfinite(y) & ((y > 0) | (not panel.logarithmic)))
        if len(there):
            last = there[-1]
            colour = style.COLOURS[number % len(style.COLOURS)]
            ends.append(style.End(line.label, float(x[last]), float(y[last]), colour))
    right = axis.get_xlim()[1]
    ends += [style.End(text, right, y, style.GREY) for y, text in panel.references if text]
    return ends


def _legend(figure: Figure, pairs: Sequence[tuple[Axes, Panel]]) -> Legend | None:
    """Add legends below: one for all panels if each name looks the same in all, else one per panel.

    Returns:
        The common legend, if there is one.
    """
    looks: dict[str, set[tuple[int, str]]] = {}
    handles: dict[str, Any] = {}
    for axis, panel in pairs:
        for line, number in _named(panel):
            looks.setdefault(line.label, set()).add((number, line.mark if line.points else ""))
        drawn_lines, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, drawn_lines, strict=True))
    font: dict[str, Any] = {"fontsize": style.SIZE - 0.5, "frameon": False}
    if all(len(each) == 1 for each in looks.values()):
        width = 0.6 + 0.09 * max(map(len, looks), default=0)
        font["ncols"] = max(1, int(figure.get_figwidth() / width))
        shown = [handles[label] for label in looks]
        return figure.legend(handles=shown, loc="outside lower center", **font)
    for axis, _ in pairs:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="upper left", bbox_to_anchor=(0, -0.22), **font)
    return None
