"""Curves in panels, told apart by colour and dash alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bridge.errors import StorageError
from bridge.report.policies import COLOURS, check_drawing, check_picture

DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))


@dataclass(frozen=True)
class Line:
    """A curve, with a band from `low` to `high` where both are given.

    Args:
        label: what it is.
        x, y: its points; NaN breaks it.
        low, high: ends of the band at each point; NaN leaves it out.
        style: number of its colour and dash; its place in the panel if not given.
        faint: drawn thin and without a label, as one of several runs behind their mean.
        points: drawn as small marks that are not joined.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    style: int | None = None
    faint: bool = False
    points: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves over one axis.

    Args:
        title: what is drawn.
        x_label: what it is drawn over.
        lines: the curves.
        logarithmic: whether the vertical axis is; values <= 0 are then not drawn.
        x_logarithmic: whether the horizontal axis is.
        name: short and unique, for a file's name.
        note: what a reader must know to read it right.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    logarithmic: bool = False
    x_logarithmic: bool = False
    name: str = ""
    note: str = ""


def styles(lines: Sequence[Line]) -> list[int]:
    """Give the number of each line's style: its own, or its place."""
    return [i if line.style is None else line.style for i, line in enumerate(lines)]


def draw_panels(path: Path, panels: Sequence[Panel], columns: int = 2) -> None:
    """Draw panels in rows and write a PNG, SVG or PDF by the name's ending.

    Raises:
        InputError: see `check_picture`.
        StorageError: the picture cannot be written.
    """
    check_picture(path, overwrite=True)
    figure = drawn(panels, columns)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise StorageError(f"{path}: the picture cannot be written: {error}") from error


def drawn(panels: Sequence[Panel], columns: int = 2, option: str = "--plot") -> Any:
    """Draw panels in rows, as a matplotlib figure; a legend that is every panel's stands below.

    Args:
        panels: what is drawn.
        columns: panels a row.
        option: what asks for the figure, for messages.

    Raises:
        InputError: matplotlib is not installed.
    """
    check_drawing(option)
    from matplotlib.figure import Figure

    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5.2 * columns, 3.7 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel)
    keys = {_key(panel) for panel in panels}
    if len(panels) > 1 and len(keys) == 1 and (lines := axes[0].get_legend_handles_labels()[0]):
        figure.legend(handles=lines, loc="outside lower center", ncols=4, fontsize=8)
    else:
        for axis in axes:
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=8)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return figure


def _key(panel: Panel) -> tuple[tuple[Any, ...], ...]:
    """What a legend says of a panel: labels and how they are drawn."""
    drawn = zip(panel.lines, styles(panel.lines), strict=True)
    return tuple((line.label, style, line.points) for line, style in drawn if not line.faint)


def _draw(axis: Any, panel: Panel) -> None:
    for line, style in zip(panel.lines, styles(panel.lines), strict=True):
        colour, dash = COLOURS[style % len(COLOURS)], DASHES[style % len(DASHES)]
        if line.faint:
            axis.plot(line.x, line.y, color=colour, linestyle=dash, linewidth=0.6, alpha=0.5)
            continue
        if line.points:
            axis.plot(line.x, line.y, "|", color=colour, label=line.label, markersize=2)
            continue
        alone = "o" if np.size(line.x) == 1 else None
        axis.plot(line.x, line.y, color=colour, linestyle=dash, label=line.label, marker=alone)
        if line.low is not None and line.high is not None:
            axis.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, lw=0)
    axis.set(title=panel.title, xlabel=panel.x_label)
    if panel.logarithmic:
        axis.set_yscale("log")
    if panel.x_logarithmic:
        axis.set_xscale("log")
    axis.grid(alpha=0.3)
