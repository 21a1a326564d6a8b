"""Policies over time: curves, and the path on the simplex where there are three actions."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.errors import InputError, StorageError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette, which colour-blind readers tell apart."""


def check_drawing(option: str) -> None:
    """Tell before a long run whether pictures can be drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(f'{option} needs matplotlib: pip install ".[report]"')


def check_picture(path: Path, overwrite: bool = False) -> None:
    """Tell before a long run whether a picture can be drawn.

    Args:
        path: of the picture.
        overwrite: whether a file that is there may be replaced.

    Raises:
        InputError: matplotlib is not installed, the ending is unknown, there is no such folder, or
            there is a file already.
    """
    check_drawing("--plot")
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"--plot {path}: the name must end in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--plot {path}: there is no folder {path.parent}")
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"--plot {path}: exists; choose another name, or add --overwrite")


def plot_policies(
    path: Path,
    contexts: Sequence[str],
    actions: Sequence[str],
    steps: Sequence[int],
    policies: NDArray[Any],
    equilibria: NDArray[Any],
) -> None:
    """Draw one panel a context and write a PNG, SVG or PDF by the name's ending.

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
    from matplotlib.figure import Figure

    columns = min(len(contexts), 2)
    rows = math.ceil(len(contexts) / columns)
    figure = Figure(figsize=(6 * columns, 4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    # one colour an action, the same in every panel; beyond the palette the rare ones are left out
    shown = np.argsort(-np.maximum(policies.max((0, 1)), equilibria.max(0)))[: len(COLOURS)]
    for c, (context, panel) in enumerate(zip(contexts, panels, strict=False)):
        if len(actions) == 3:
            _simplex(panel, actions, steps, policies[:, c], equilibria[c])
        else:
            _curves(panel, actions, steps, policies[:, c], equilibria[c], shown)
        panel.set_title(context)
    for panel in list(panels)[len(contexts) :]:
        panel.set_visible(False)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise StorageError(f"{path}: the figure cannot be written: {error.strerror}") from None


def _curves(
    panel: Any,
    actions: Sequence[str],
    steps: Sequence[int],
    policy: NDArray[Any],
    equilibrium: NDArray[Any],
    shown: NDArray[Any],
) -> None:
    for colour, k in zip(COLOURS, shown, strict=False):
        panel.plot(steps, policy[:, k], color=colour, label=actions[k])
        panel.axhline(equilibrium[k], color=colour, linestyle="--", linewidth=0.8)
    panel.set(xscale="log", xlabel="step", ylabel="probability", ylim=(-0.02, None))
    panel.legend(fontsize="small", ncols=2)


def _simplex(
    panel: Any,
    actions: Sequence[str],
    steps: Sequence[int],
    policy: NDArray[Any],
    equilibrium: NDArray[Any],
) -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    panel.plot(*np.vstack([corners, corners[:1]]).T, color="black", linewidth=1)
    for corner, name, side in zip(corners, actions, ("top", "top", "bottom"), strict=True):
        panel.text(*corner, name, ha="center", va=side)
    path = policy @ corners
    panel.plot(*path.T, color=COLOURS[0], marker=".", markersize=3, label=f"to step {steps[-1]}")
    panel.plot(*path[0], color=COLOURS[4], marker="o", linestyle="none", label="first")
    star = equilibrium @ corners
    panel.plot(*star, color=COLOURS[1], marker="*", markersize=12, linestyle="none", label="oracle")
    panel.set_aspect("equal")
    panel.axis("off")
    panel.legend(fontsize="small")
