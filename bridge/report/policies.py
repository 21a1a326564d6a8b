"""Plots of policies over time: curves, and for three actions a path on the simplex."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridge.errors import InputError
from bridge.report import style
from bridge.runlog.output import check_new_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def check_drawing(option: str) -> None:
    """Check before a long run that pictures can be drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(f'{option} needs matplotlib: pip install ".[report]"')


def check_picture(path: Path, overwrite: bool = False) -> None:
    """Check before a long run that a picture can be drawn and written.

    Args:
        path: of the picture.
        overwrite: whether an existing file may be replaced.

    Raises:
        InputError: matplotlib is not installed, the extension is unknown, the folder does not exist
            or is not writable, or the file already exists.
    """
    check_drawing("--plot")
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"--plot {path}: the name must end in .png, .svg or .pdf")
    check_new_file("--plot", path, overwrite)


def plot_policies(
    path: Path,
    contexts: Sequence[str],
    actions: Sequence[str],
    steps: Sequence[int],
    policies: NDArray[Any],
    equilibria: NDArray[Any],
) -> None:
    """Draw one panel per context and write a PNG, SVG or PDF according to the file name.

    Args:
        path: the picture.
        contexts: C names.
        actions: K names.
        steps: R steps.
        policies: [R, C, K].
        equilibria: [C, K], drawn dashed, or as a star on the simplex.

    Raises:
        InputError: see `check_picture`.
        StorageError: the picture cannot be written.
    """
    check_picture(path, overwrite=True)
    columns = min(len(contexts), 2)
    rows = math.ceil(len(contexts) / columns)
    figure = style.new_figure(rows, columns, 5.0, 3.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel().tolist()
    # one colour per action, the same in every panel; beyond the palette, rare actions are left out
    most = -np.maximum(policies.max((0, 1)), equilibria.max(0))
    shown = np.argsort(most, kind="stable")[: len(style.COLOURS)]
    ends = []
    for c, (context, panel) in enumerate(zip(contexts, panels, strict=False)):
        if len(actions) == 3:
            _simplex(panel, actions, steps, policies[:, c], equilibria[c])
            panel.set_title(context, loc="left", fontsize=style.SIZE + 1, fontweight="bold")
        else:
            named = _curves(panel, context, actions, steps, policies[:, c], equilibria[c], shown)
            ends.append((panel, named))
    for panel in panels[len(contexts) :]:
        panel.set_visible(False)
    if ends:
        style.caption(figure, "dashed: the equilibrium")
        style.label_ends(figure, ends)
    style.save(figure, path)


def _curves(
    panel: Axes,
    context: str,
    actions: Sequence[str],
    steps: Sequence[int],
    policy: NDArray[Any],
    equilibrium: NDArray[Any],
    shown: NDArray[Any],
) -> list[style.End]:
    """Draw the policy in one context; give the labels for the ends."""
    ends = []
    for colour, each in zip(style.COLOURS, shown, strict=False):
        k = int(each)
        panel.plot(steps, policy[:, k], color=colour, linewidth=style.LINE)
        panel.axhline(float(equilibrium[k]), color=colour, linestyle="--", linewidth=0.8)
        ends.append(style.End(actions[k], float(steps[-1]), float(policy[-1, k]), colour))
    style.dress(panel, context, "step", "probability")
    panel.tick_params(labelleft=True)
    panel.set_xscale("log")
    panel.set_ylim(bottom=0)
    panel.margins(x=0.02)
    style.tick(panel.xaxis, np.unique(np.asarray(steps, float)))
    style.tick(panel.yaxis, np.empty(0))
    return ends


def _simplex(
    panel: Axes,
    actions: Sequence[str],
    steps: Sequence[int],
    policy: NDArray[Any],
    equilibrium: NDArray[Any],
) -> None:
    """Draw a policy over three actions as a path in their triangle."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    panel.plot(*np.vstack([corners, corners[:1]]).T, color="#888888", linewidth=1)
    for corner, name, side in zip(corners, actions, ("top", "top", "bottom"), strict=True):
        panel.annotate(name, corner, (0, 4 if side == "bottom" else -4), ha="center", va=side,
                       textcoords="offset points", fontsize=style.SIZE)  # fmt: skip
    path = policy @ corners
    panel.plot(*path.T, color=style.COLOURS[0], linewidth=1.2, marker=".", markersize=3)
    marks = (("first", path[0], style.COLOURS[4], "o", 7),
             (f"step {steps[-1]:,}", path[-1], style.COLOURS[0], "o", 6),
             ("equilibrium", equilibrium @ corners, style.COLOURS[1], "*", 12))  # fmt: skip
    for label, place, colour, mark, size in marks:
        panel.plot(*place, mark, color=colour, markersize=size, label=label)
    panel.set_aspect("equal")
    panel.set_axis_off()
    panel.legend(loc="upper left", fontsize=style.SIZE - 0.5, frameon=False,
                 bbox_to_anchor=(0.72, 1.0))  # fmt: skip
