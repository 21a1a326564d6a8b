"""The figure of `eqprop-run --plot`: errors, angles, and first-layer weights as images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bridge.report.panels import Images, Line, Panel
from bridge.runlog import read_run

if TYPE_CHECKING:
    from torch import Tensor

    from bioplaus.training import Run
    from bridge.runlog import Run as Log

ORTHOGONAL = (90.0, "orthogonal")
_MOST_IMAGES = 25
_ALL = ("all", "feedforward")


def training_panels(path: Path, run: Run) -> list[Panel | Images]:
    """Make the panels of a run, finished or interrupted.

    Args:
        path: its log.
        run: its field has the present weights, and its data the shape of the images.

    Returns:
        The panels that have something to show: none for a run that was stopped in its first epoch
            and whose inputs are not images.
    """
    log = read_run(path)
    curves = [*_errors(log), *_angles(log)]
    return [*curves, *_weights(run.field.parameters, run.dataset.image_shape)]


def _errors(log: Log) -> list[Panel]:
    epochs = log.table("epochs")
    names = ("train_error", "test_error")
    known = [name for name in names if np.isfinite(epochs[name]).any()]
    lines = [Line(name.removesuffix("_error"), epochs["epoch"], epochs[name]) for name in known]
    if lines:
        return [Panel("Error", "epoch", lines, y_label="error, %", references=[(0, "")])]
    if not len(epochs["epoch"]):
        return []
    return [Panel("Cost", "epoch", [Line("", epochs["epoch"], epochs["cost"])], y_label="cost")]


def _angles(log: Log) -> list[Panel]:
    """Plot the angle of updates to the gradient, or else that of the feedback weights."""
    if "gradients" in log.tables and len(log.table("gradients")["step"]):
        return [_to_gradient(log)]
    epochs = log.table("epochs")
    pairs = [name for name in epochs if name.startswith("alignment_")]
    if not pairs or not len(epochs["epoch"]):
        return []
    lines = [
        Line(
            f"pair {name.removeprefix('alignment_')}",
            epochs["epoch"],
            np.degrees(np.arccos(np.clip(epochs[name], -1, 1))),
        )
        for name in pairs
    ]
    marks = [(0, ""), ORTHOGONAL]
    title = "Feedback against the transpose"
    return [Panel(title, "epoch", lines, y_label="angle, degrees", references=marks)]


def _to_gradient(log: Log) -> Panel:
    rows = log.table("gradients")
    shown = rows["oracle"] == rows["oracle"][0]
    names = dict.fromkeys(rows["parameter"][shown].tolist())
    layers = [name for name in names if name in _ALL or name.startswith("forward.")]
    lines = []
    for name in layers or names:
        of_name = shown & (rows["parameter"] == name)
        lines.append(Line(name, rows["step"][of_name], rows["angle_degrees"][of_name]))
    marks = [(0, ""), ORTHOGONAL]
    title = "Update against the gradient"
    return Panel(title, "step", lines, y_label="angle, degrees", references=marks)


def _weights(parameters: Mapping[str, Tensor], shape: tuple[int, int, int] | None) -> list[Images]:
    """Show the weights of each first-layer unit as an image, averaged over its channels."""
    if shape is None:
        return []
    whole = int(np.prod(shape))
    for name, parameter in parameters.items():
        values = parameter.detach().double().cpu().numpy()
        if values.ndim == 2 and values.shape[1] == whole:
            arrays = values.reshape(-1, *shape).mean(1)
        elif values.ndim == 4 and values.shape[1] == shape[0]:
            arrays = values.mean(1)
        else:
            continue
        some = f"{_MOST_IMAGES} of " if len(arrays) > _MOST_IMAGES else ""
        title = f"First layer: {some}{len(arrays)} units"
        return [Images(title, arrays[:_MOST_IMAGES], name)]
    return []
