"""The history of a run: its rows, with tables and plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bioplaus.comparing import same
from bioplaus.contraction import Act
from bioplaus.errors import InputError
from bioplaus.frames import frame, text_table
from bioplaus.training.records import StepRecord

_SHOWN = (
    "epoch",
    "cost",
    "train_error",
    "test_error",
    "exploitability",
    "regularised_gap",
    "kl_to_equilibrium",
    "free_residual",
    "converged",
    "seconds",
)
_TABLES = ("rows", "steps", "checks")


class History:
    """The result of `fit`, which also holds the rows so far while it runs.

    Attributes:
        rows: one record per epoch: `epoch`, `cost`, `train_error` and `test_error` in percent (NaN
            for target vectors, and without a test set), `free_residual`, `converged`,
            `alignment_1`, ... For a field with an energy also `energy` at the end of the free
            phases of some test inputs and `energy_rise`, the largest rise in one of their steps.
            `rows[-1].test_error` is the error of the current field.
        steps: one record for every `log_every`-th update.
        checks: rows of the gradient checks, if `check_gradients_every` enables them.
        acts: one record for each time that feedback was shrunk, if `contraction` has a limit.
        warnings: doubts about the run, one line each.
        status: "finished", or "stopped" by Ctrl-C.
        path: path of the log; None if there is no log.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Start an empty history."""
        self.rows: list[Any] = []
        self.steps: list[StepRecord] = []
        self.checks: list[Any] = []
        self.acts: list[Act] = []
        self.warnings: list[str] = []
        self.status = "running"
        self.path = path

    def __repr__(self) -> str:
        where = "" if self.path is None else f", log {self.path}"
        epochs = f"{len(self.rows)} epoch{'' if len(self.rows) == 1 else 's'}"
        head = f"History({self.status}, {epochs}, {len(self.steps)} steps{where})"
        lines = [head, *([text_table(self._known(_SHOWN), self.rows)] if self.rows else [])]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return same(vars(self), vars(other))

    __hash__ = None  # type: ignore[assignment]

    def to_dataframe(self, table: str = "rows") -> Any:
        """The rows as a pandas data frame.

        Args:
            table: "rows", "steps" or "checks".

        Raises:
            InputError: the table is unknown, or pandas is not installed.
        """
        if table not in _TABLES:
            raise InputError(f"table={table!r} is unknown; use one of {', '.join(_TABLES)}")
        return frame(getattr(self, table))

    def plot(self, path: Path | str | None = None) -> Any:
        """Draw cost, errors and residuals over the epochs; a notebook shows the figure.

        Args:
            path: a PNG, SVG or PDF file to write as well.

        Returns:
            A matplotlib figure.

        Raises:
            InputError: there are no rows yet, matplotlib is not installed, or the file's suffix is
                not supported.
        """
        from bridge.report.panels import Line, Panel, draw_panels, drawn

        if not self.rows:
            raise InputError("there is nothing to plot before the first epoch has ended")
        panels = []
        for title, names, logarithmic in _PANELS:
            lines = [
                Line(name.replace("_", " "), [r.epoch for r in self.rows], self._column(name))
                for name in self._known(names)
            ]
            shown = [each for each in lines if not all(map(math.isnan, each.y))]  # type: ignore[arg-type]
            if shown:
                panels.append(Panel(title, "epoch", shown, logarithmic=logarithmic))
        if path is not None:
            draw_panels(Path(path), panels)
        return drawn(panels, option="plot()")

    def _known(self, names: Sequence[str]) -> list[str]:
        """The given names that the rows have."""
        return [name for name in names if hasattr(self.rows[0], name)]

    def _column(self, name: str) -> list[float]:
        return [float(getattr(row, name)) for row in self.rows]


_PANELS: Sequence[tuple[str, tuple[str, ...], bool]] = (
    ("cost", ("cost",), False),
    ("error, %", ("train_error", "test_error"), False),
    ("exploitability", ("exploitability", "regularised_gap"), True),
    ("largest residual", ("free_residual", "nudged_residual"), True),
    ("share of rows", ("converged", "accepted"), False),
)
