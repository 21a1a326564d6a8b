"""The style of matplotlib figures: sizes, colours, axes, ticks, and labels at line ends."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bridge.errors import StorageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Annotation

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
"""Colour of what is not data: references, captions."""
DPI = 160
SIZE = 10.0
"""Font size in points: at half the pixels it still has eight pixels."""
LINE = 1.8
FEW = 6
"""An axis with at most so many positions has a tick at each."""
_CONTRAST = 0.18
"""The largest luminance of a text colour: a contrast of 4.5 to 1 on white."""


def ink(colour: str) -> str:
    """Darken a colour until text in it is readable on white.

    Examples:
        >>> ink("#000000"), ink("#F0E442")
        ('#000000', '#7e7723')
    """
    parts = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    while _luminance(parts) > _CONTRAST:
        parts = parts * 0.98
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts.tolist())


def _luminance(parts: NDArray[np.float64]) -> float:
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def plain(value: float) -> str:
    """Write a tick value for people: 0.01, 6, 12,000; and 1e-7 instead of many zeros.

    Examples:
        >>> [plain(x) for x in (0.01, 6.0, 12000.0, 1e-7)]
        ['0.01', '6', '12,000', '1e-7']
    """
    size = abs(value)
    if size and not 1e-4 <= size < 1e6:
        digits, _, power = f"{value:.3e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:,.6g}".replace("-", "\N{MINUS SIGN}")


def new_figure(rows: int, columns: int, width: float, height: float) -> Figure:
    """Create an empty figure.

    Args:
        rows, columns: number of panels.
        width, height: of a panel with its labels, in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.04, hspace=0.05)  # type: ignore[union-attr]
    return figure


def dress(axis: Axes, title: str, x_label: str, y_label: str) -> None:
    """Set a panel's texts, and keep only as much frame and grid as helps to read it."""
    room = axis.get_figure(root=True).get_figwidth() / axis.get_gridspec().ncols  # type: ignore[union-attr]
    width = max(10, int((room - 0.8) * 72 / (0.73 * SIZE)))
    axis.set_title(textwrap.fill(title, width), loc="left", fontsize=SIZE + 1, fontweight="bold")
    axis.set_xlabel(x_label, fontsize=SIZE)
    axis.set_ylabel(textwrap.fill(y_label, 30), fontsize=SIZE)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#888888")
    axis.tick_params(labelsize=SIZE - 0.5, color="#888888", labelcolor="#333333")
    axis.grid(color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)


def mark_event(axis: Axes, place: float, text: str) -> None:
    """Draw a vertical line, with a text to the left of its upper end."""
    axis.axvline(place, color=GREY, linewidth=0.9, linestyle=":", zorder=1)
    axis.annotate(
        text,
        (place, 1),
        xytext=(-4, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=SIZE - 0.5,
        color=GREY,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )


def tick(axis: Axis, values: NDArray[np.float64]) -> None:
    """Set an axis's ticks: at the values if they are few and far apart, else at round numbers.

    Args:
        axis: its scale and limits must be set already.
        values: the measured positions, if the axis has such.
    """
    from matplotlib.axis import XAxis
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    logarithmic = axis.get_scale() == "log"
    if logarithmic:
        values = values[values > 0]
    low, high = axis.get_view_interval()
    if 1 < len(values) <= FEW and _apart(values, logarithmic):
        axis.set_major_locator(FixedLocator(values.tolist()))
    elif not logarithmic:
        whole = len(values) > 0 and bool((values == np.round(values)).all())
        wide = isinstance(axis, XAxis) and len(plain(high)) > 5  # labels such as 10,000
        count, steps = (4, [1, 2, 4, 5, 10]) if wide else (6, [1, 2, 5, 10])
        axis.set_major_locator(MaxNLocator(count, steps=steps, integer=whole))
    else:
        decades = math.log10(high / low)
        if decades < 0.8:
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        else:
            subs = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3 else (1.0,)
            axis.set_major_locator(LogLocator(subs=subs, numticks=FEW + 2))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def _apart(values: NDArray[np.float64], logarithmic: bool) -> bool:
    """Whether ticks at all values leave room for their labels."""
    places = np.log(values) if logarithmic else values
    return bool(np.diff(places).min() > 0.16 * (places[-1] - places[0]))


@dataclass(frozen=True)
class End:
    """The label at the end of a line.

    Args:
        text: the line's name.
        x, y: its last point.
        colour: the line's colour.
    """

    text: str
    x: float
    y: float
    colour: str


def label_ends(figure: Figure, ends: Sequence[tuple[Axes, Sequence[End]]]) -> None:
    """Label lines at their ends, to the right of each panel, without overlaps.

    Lines that end far from the right edge have the label next to their last point.
    """
    placed: list[tuple[Axes, list[tuple[End, Annotation]]]] = []
    for axis, of_axis in ends:
        low, high = (axis.transData.inverted().transform(axis.transAxes.transform(p))[0]
                     for p in ((0.6, 0), (1, 0)))  # fmt: skip
        right = [end for end in of_axis if low <= end.x <= high * (1 + 1e-9)]
        for end in of_axis:
            if end not in right:
                _beside(axis, end)
        placed.append((axis, [(end, _in_margin(axis, end)) for end in right]))
    figure.draw_without_rendering()
    for axis, of_axis in placed:
        _spread(axis, of_axis)


def _beside(axis: Axes, end: End) -> None:
    axis.annotate(
        end.text,
        (end.x, end.y),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        fontsize=SIZE - 0.5,
        color=ink(end.colour),
    )


def _in_margin(axis: Axes, end: End) -> Annotation:
    colour = ink(end.colour)
    return axis.annotate(
        end.text,
        (end.x, end.y),
        xytext=(1.03, 0.5),
        textcoords="axes fraction",
        va="center",
        fontsize=SIZE - 0.5,
        color=colour,
        annotation_clip=False,
        arrowprops={
            "arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2,
            "relpos": (0, 0.5),
        },
    )  # fmt: skip


def _spread(axis: Axes, ends: Sequence[tuple[End, Annotation]]) -> None:
    """Move labels as little as possible so that none overlap."""
    if not ends:
        return
    pixels = axis.transData.transform([(end.x, end.y) for end, _ in ends])
    wanted = axis.transAxes.inverted().transform(pixels)[:, 1]
    height = axis.get_window_extent().height * 72 / axis.get_figure(root=True).dpi  # type: ignore[union-attr]
    for (_, text), place in zip(ends, apart(wanted, 1.15 * SIZE / height), strict=True):
        text.set_position((1.03, place))


def apart(wanted: Sequence[float] | NDArray[np.float64], gap: float) -> list[float]:
    """Find the positions closest to those wanted in 0..1, in the same order and a gap apart.

    Closest in the sum of squares, so that crowded positions spread about their mean.

    Args:
        wanted: positions, in any order.
        gap: distance between neighbours.

    Returns:
        Positions in the given order. If too many to fit, they extend beyond 0..1.

    Examples:
        >>> apart([0.5, 0.5, 0.9], 0.1)
        [0.45, 0.55, 0.9]
    """
    order = np.argsort(wanted, kind="stable")
    shift = gap * np.arange(len(order))
    pools: list[list[float]] = []
    for value in np.asarray(wanted, float)[order] - shift:
        pools.append([float(value)])
        while len(pools) > 1 and np.mean(pools[-2]) >= np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    flat = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools] or [shift])
    room = 1 - shift[-1] if len(order) else 1
    flat = np.clip(flat, min(0, room / 2), max(room, room / 2))
    places = np.empty(len(order))
    places[order] = flat + shift
    return [round(place, 12) for place in places.tolist()]


def caption(figure: Figure, text: str, legend: Legend | None = None) -> None:
    """Write a note on all panels below them, above the legend if there is one."""
    if not text:
        return
    width = int(figure.get_figwidth() * 72 / (0.5 * SIZE))
    lines = "\n".join(textwrap.wrap(text, width))
    if legend is None:
        figure.supxlabel(lines, x=0.01, ha="left", fontsize=SIZE - 0.5, color=GREY)
        return
    legend.set_title(lines)
    legend.get_title().set(fontsize=SIZE - 0.5, color=GREY)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, SVG or PDF according to the file name.

    Raises:
        StorageError: the picture cannot be written.
    """
    try:
        figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise StorageError(f"{path}: the picture cannot be written: {error}") from error
