"""Angle between update and gradient, asymmetry and bound while the 3x512 network learns.

    python -m experiments.angle_over_training [--out FOLDER] [--processes N] [--figure FILE.png]

`configs/mnist-3x512-asym-ep.toml` with `asym-ep` and with `vector-field`, checked every 600 steps
against the matrix-free oracle on 20 images; about 12 minutes each.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from bridge.report.panels import Line, Panel, draw_panels
from bridge.runlog import Run
from experiments.jobs import device_option, markdown, run_all

CONFIG = "configs/mnist-3x512-asym-ep.toml"
ESTIMATORS = ("vector-field", "asym-ep")
LAYERS = ("forward.1", "forward.2", "forward.3", "forward.4")


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/angle-over-training"))
@click.option("--processes", type=int, default=1)
@click.option("--every", type=int, default=600)
@device_option
@click.option("--figure", type=click.Path(path_type=Path), default=Path("angle-over-training.png"))
def main(out: Path, processes: int, every: int, device: str, figure: Path) -> None:
    jobs = {
        name: [CONFIG, "--estimator", name, "--check-gradients-every", str(every)]
        for name in ESTIMATORS
    }
    runs = run_all(jobs, out, processes, device=device)
    for name in ESTIMATORS:
        click.echo(f"\n`{name}`\n\n{_table(runs[name])}")
    draw_panels(figure, _panels(runs), columns=3)
    click.echo(f"\nfigure: {figure}")


def _column(run: Run, parameter: str, name: str) -> np.ndarray:
    rows = run.table("gradients")
    return rows[name][rows["parameter"] == parameter]


def _line(run: Run, parameter: str, name: str, label: str) -> Line:
    return Line(label, _column(run, parameter, "step"), _column(run, parameter, name))


def _panels(runs: dict[str, Run]) -> list[Panel]:
    panels = [
        Panel(
            f"{name}: angle to the gradient, degrees",
            "step",
            [_line(run, p, "angle_degrees", p) for p in ("all", *LAYERS)],
        )
        for name, run in runs.items()
    ]
    panels.append(
        Panel(
            "asymmetry of the Jacobian",
            "step",
            [_line(run, "all", "asymmetry", name) for name, run in runs.items()],
        )
    )
    panels += [
        Panel(
            f"{name}: relative error",
            "step",
            [
                _line(run, "all", "relative_error", "measured"),
                _line(run, "all", "bound", "bound of the vector field"),
            ],
            logarithmic=True,
        )
        for name, run in runs.items()
    ]
    errors = []
    for name, run in runs.items():
        epochs = run.table("epochs")
        errors.append(Line(name, epochs["step"], epochs["test_error"]))
    panels.append(Panel("test error, %", "step", errors, logarithmic=True))
    return panels


def _table(run: Run) -> str:
    steps = _column(run, "all", "step")
    shown = np.unique(np.linspace(0, len(steps) - 1, 7).astype(int))
    rows = [["step", *(str(step) for step in steps[shown])]]
    for parameter in ("all", *LAYERS):
        angle = _column(run, parameter, "angle_degrees")[shown]
        rows.append([f"angle, {parameter}", *(f"{value:.1f}" for value in angle)])
    for name in ("relative_error", "bound", "asymmetry", "residual"):
        values = _column(run, "all", name)[shown]
        rows.append([name.replace("_", " "), *(f"{value:.3g}" for value in values)])
    return markdown(rows[0], rows[1:])


if __name__ == "__main__":
    main()
