"""The figure of `gradcheck --plot`: angle and error of each estimate, one panel per oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bridge.report.panels import Line, Panel
from bridge.report.style import MARKERS

if TYPE_CHECKING:
    from bioplaus.gradient_row import GradientRow

_ROOM = 0.8
"""Share of the distance between two parameters that their estimates fill."""
_BOUND = 6


def gradient_panels(rows: Sequence[GradientRow]) -> list[Panel]:
    """Make the panels of a check: parameters on the x axis, estimates as markers side by side.

    Returns:
        Two panels per oracle, with equal axes; none if no row could be compared.
    """
    compared = [row for row in rows if row.compared]
    parameters = list(dict.fromkeys(row.parameter for row in rows))
    estimates = list(dict.fromkeys(_estimate(row) for row in rows))
    panels = []
    for oracle in dict.fromkeys(row.oracle for row in compared):
        mine = [row for row in compared if row.oracle == oracle]
        angles = _marks(mine, "angle_degrees", estimates, parameters)
        errors = _marks(mine, "relative_error", estimates, parameters)
        most = max(row.angle_degrees or 0 for row in compared)
        panels += [
            Panel(
                f"Angle to the gradient: {oracle}",
                "",
                angles,
                y_label="angle, degrees",
                references=[(0, ""), (90, "orthogonal")] if most > 30 else [(0, "")],
                categories=parameters,
            ),
            Panel(
                f"Error of the update: {oracle}",
                "",
                [*errors, *_bounds(mine, parameters)],
                logarithmic=True,
                y_label="relative error",
                references=[(1, "no update")],
                categories=parameters,
            ),
        ]
    return panels


def left_out(rows: Sequence[GradientRow]) -> str:
    """Say what the figure leaves out."""
    missing = [row for row in rows if not row.compared]
    if not missing:
        return ""
    reasons = dict.fromkeys(str(row.reason) for row in missing)
    return f"{len(missing)} of {len(rows)} comparisons left out: {', '.join(reasons)}"


def _estimate(row: GradientRow) -> tuple[str, float | None]:
    return row.estimator, None if math.isnan(row.beta) else row.beta


def _marks(
    rows: Sequence[GradientRow],
    measure: str,
    estimates: Sequence[tuple[str, float | None]],
    parameters: Sequence[str],
) -> list[Line]:
    several = len({beta for _, beta in estimates} - {None}) > 1
    lines = []
    for n, (name, beta) in enumerate(estimates):
        mine = [row for row in rows if _estimate(row) == (name, beta)]
        shift = _ROOM * ((n + 0.5) / len(estimates) - 0.5)
        x = [parameters.index(row.parameter) + shift for row in mine]
        label = f"{name}, beta {beta:g}" if several and beta is not None else name
        y = [getattr(row, measure) for row in mine]
        lines.append(Line(label, x, y, points=True, style=n, mark=MARKERS[n % len(MARKERS)]))
    return lines


def _bounds(rows: Sequence[GradientRow], parameters: Sequence[str]) -> list[Line]:
    """Draw the bound once per parameter; it depends on the network, not on the estimate."""
    known = {row.parameter: row.bound for row in rows if row.bound is not None and row.bound > 0}
    if not known:
        return []
    x, y = ([*map(parameters.index, known)], [*known.values()])
    return [Line("bound of the vector field", x, np.array(y), points=True, style=_BOUND, mark="_")]
