"""Curves in panels, told apart by colour and dash alike."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from bridge.errors import StorageError
from bridge.report.policies import COLOURS, check_picture

DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))


@dataclass(frozen=True)
class Line:
    """A curve, with a band from `low` to `high` where both are given."""

    label: str
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


@dataclass(frozen=True)
class Panel:
    """Curves over one axis."""

    title: str
    x_label: str
    lines: Sequence[Line]
    logarithmic: bool = False


def draw_panels(path: Path, panels: Sequence[Panel], columns: int = 2) -> None:
    """Draw panels in rows and write a PNG, SVG or PDF by the name's ending.

    Raises:
        InputError: see `check_picture`.
        StorageError: the picture cannot be written.
    """
    check_picture(path)
    from matplotlib.figure import Figure

    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5.2 * columns, 3.7 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        for line, colour, dash in zip(
            panel.lines, itertools.cycle(COLOURS), itertools.cycle(DASHES), strict=False
        ):
            axis.plot(line.x, line.y, color=colour, linestyle=dash, label=line.label)
            if line.low is not None and line.high is not None:
                axis.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, lw=0)
        axis.set(title=panel.title, xlabel=panel.x_label)
        if panel.logarithmic:
            axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise StorageError(f"{path}: the picture cannot be written: {error}") from error
