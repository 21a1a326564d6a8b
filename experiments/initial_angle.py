"""How much the initial angle of the weights matters, for each estimator.

    python -m experiments.initial_angle [--out FOLDER] [--processes N] [--figure FILE.png]

784-128-64-10, tanh, 10,000 MNIST images, 3 epochs, 3 seeds, the same settings for all; 105 runs of
8 to 50 seconds. Prints the test error, and the gradient angle at the last step for the seeds whose
phases and oracles have converged there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from bridge.report.panels import Line, Panel, caption_of_runs, draw_panels, over_runs
from bridge.runlog import Run
from experiments.jobs import device_option, markdown, run_all, settings

ANGLES = (0, 45, 90, 135, 180)
STEPS = 600
NUDGED = settings(estimator__beta=0.2)
METHODS = {
    "vector-field, one-sided": ["--estimator", "vector-field", "--nudging", "one-sided", *NUDGED],
    "vector-field, centered": ["--estimator", "vector-field", *NUDGED],
    "holomorphic": ["--estimator", "holomorphic", *NUDGED],
    "homeostasis": ["--estimator", "homeostasis", *settings(estimator__strength=0.1), *NUDGED],
    "kolen-pollack": ["--estimator", "kolen-pollack", *NUDGED],
    "asym-ep": ["--estimator", "asym-ep", *NUDGED],
    "recurrent-backprop": ["--estimator", "recurrent-backprop"],
}
COMMON = [
    *("--hidden", "128", "64", "--epochs", "3", "--check-gradients-every", str(STEPS)),
    *settings(
        data__train_size=10_000,
        network__activation="tanh",
        network__coordinates="membrane",
        network__gain=0.7,
        network__feedback_gain=0.5,
        optimizer__learning_rate=0.1,
        optimizer__rates="{}",
    ),
]


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/initial-angle"))
@click.option("--processes", type=int, default=1)
@click.option("--seeds", type=int, default=3)
@device_option
@click.option("--figure", type=click.Path(path_type=Path), default=Path("initial-angle.png"))
def main(out: Path, processes: int, seeds: int, device: str, figure: Path) -> None:
    jobs = {
        _name(method, angle, seed): [
            *COMMON,
            *arguments,
            *settings(network__angle=angle),
            *("--seed", str(seed)),
        ]
        for method, arguments in METHODS.items()
        for angle in ANGLES
        for seed in range(seeds)
    }
    runs = run_all(jobs, out, processes, device=device)
    cells, lines = {}, {_last_test_error: [], _gradient_angle: []}
    for measure in lines:
        for method in METHODS:
            values = np.array(
                [[measure(runs[_name(method, a, s)]) for s in range(seeds)] for a in ANGLES]
            )
            known = [row[np.isfinite(row)] for row in values]
            lines[measure].append(over_runs(method, ANGLES, values.T))
            stopped = [
                any(runs[_name(method, a, s)].status != "finished" for s in range(seeds))
                for a in ANGLES
            ]
            cells[measure, method] = [
                _cell(row, seeds, no) for row, no in zip(known, stopped, strict=True)
            ]
    titles = {
        _last_test_error: "test error, %",
        _gradient_angle: "angle to the feedforward gradient, degrees",
    }
    header = ["estimator", *(f"{angle}°" for angle in ANGLES)]
    for measure, title in titles.items():
        rows = [[f"`{method}`", *cells[measure, method]] for method in METHODS]
        click.echo(f"\n{title}: mean (smallest to largest) of {seeds} seeds\n")
        click.echo(markdown(header, rows))
    _draw(figure, lines[_last_test_error], lines[_gradient_angle], seeds)
    click.echo(f"\nfigure: {figure}")


def _draw(figure: Path, errors: Sequence[Line], angles: Sequence[Line], seeds: int) -> None:
    over = "initial angle of the weights, degrees"
    panels = [
        Panel("Test error", over, errors, y_label="test error, %"),
        Panel(
            "Update against gradient",
            over,
            angles,
            y_label="angle, degrees",
            references=[(0, ""), (90, "orthogonal")],
        ),
    ]
    setup = "784-128-64-10, three epochs of 10,000 MNIST images"
    draw_panels(figure, panels, caption=f"{setup}; {caption_of_runs(seeds)}")


def _name(method: str, angle: int, seed: int) -> str:
    return f"{method.replace(', ', '-')}-{angle}-{seed}"


def _cell(known: np.ndarray, seeds: int, stopped: bool) -> str:
    """Format the mean over the seeds with a number, and how many these are if not all."""
    if not len(known):
        return "diverged" if stopped else "not compared"
    some = f", {len(known)} of {seeds}" if len(known) < seeds else ""
    return f"{known.mean():.1f} ({known.min():.1f} to {known.max():.1f}{some})"


def _last_test_error(run: Run) -> float:
    return run.table("epochs")["test_error"][-1] if run.status == "finished" else np.nan


def _gradient_angle(run: Run) -> float:
    if run.status != "finished":
        return np.nan
    rows = run.table("gradients")
    return rows["angle_degrees"][rows["parameter"] == "feedforward"][-1]


if __name__ == "__main__":
    main()
