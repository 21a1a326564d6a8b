"""Angle between update and gradient, asymmetry and bound during training of the 3x512 network.

    python -m experiments.angle_over_training [--out FOLDER] [--processes N] [--seeds N]
        [--figure FILE.png]

Trains `configs/mnist-3x512-asym-ep.toml` with `asym-ep` and with `vector-field`, and checks both
every 600 steps against the matrix-free oracle on 20 images; each takes about 12 minutes. Prints
means over the seeds and plots their range.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from bridge.report.panels import Line, Panel, caption_of_runs, draw_panels, over_runs
from bridge.runlog import Run
from experiments.jobs import device_option, markdown, run_all

CONFIG = "configs/mnist-3x512-asym-ep.toml"
ESTIMATORS = ("vector-field", "asym-ep")
LAYERS = ("forward.1", "forward.2", "forward.3", "forward.4")
NAMES = {"all": "all", "forward.1": "layer 1", "forward.2": "layer 2", "forward.3": "layer 3",
         "forward.4": "output layer"}  # fmt: skip
STYLES = {"all": 6, "forward.1": 2, "forward.2": 3, "forward.3": 4, "forward.4": 5}
"""Style numbers that no estimator uses; an estimator's number is its index."""


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/angle-over-training"))
@click.option("--processes", type=int, default=1)
@click.option("--every", type=int, default=600)
@click.option("--seeds", type=click.IntRange(min=1), default=3)
@device_option
@click.option("--figure", type=click.Path(path_type=Path), default=Path("angle-over-training.png"))
def main(out: Path, processes: int, every: int, seeds: int, device: str, figure: Path) -> None:
    checks = ["--check-gradients-every", str(every)]
    jobs = {
        f"{name}-{seed}": [CONFIG, "--estimator", name, "--seed", str(seed), *checks]
        for seed in range(seeds)
        for name in ESTIMATORS
    }
    done = run_all(jobs, out, processes, device=device)
    runs = {name: [done[f"{name}-{seed}"] for seed in range(seeds)] for name in ESTIMATORS}
    for name in ESTIMATORS:
        click.echo(f"\n`{name}`\n\n{_table(runs[name])}")
    caption = (
        f"MNIST, 784-512-512-512-10, feedback from independent weights; {caption_of_runs(seeds)}"
    )
    draw_panels(figure, _panels(runs), caption=caption)
    click.echo(f"\nfigure: {figure}")


def _column(run: Run, parameter: str, name: str) -> np.ndarray:
    rows = run.table("gradients")
    return rows[name][rows["parameter"] == parameter]


def _line(runs: list[Run], parameter: str, name: str, label: str, style: int | None = None) -> Line:
    values = [_column(run, parameter, name) for run in runs]
    return over_runs(label, _column(runs[0], parameter, "step"), values, style)


def _panels(runs: dict[str, list[Run]]) -> list[Panel]:
    angles = [
        Panel(
            f"{name}: angle to the gradient",
            "step",
            [_line(of_name, p, "angle_degrees", NAMES[p], STYLES[p]) for p in NAMES],
            y_label="angle, degrees",
            references=[(0, ""), (90, "orthogonal")],
        )
        for name, of_name in runs.items()
    ]
    bounds = [
        Panel(
            f"{name}: error of the update",
            "step",
            [
                _line(of_name, "all", "relative_error", "measured", number),
                _line(of_name, "all", "bound", "bound", STYLES["all"]),
            ],
            logarithmic=True,
            y_label="relative error",
            references=[(1, "no update")],
        )
        for number, (name, of_name) in enumerate(runs.items())
    ]
    errors = [over_runs(name, *_epochs(of_name, "test_error")) for name, of_name in runs.items()]
    asymmetry = [_line(of_name, "all", "asymmetry", name) for name, of_name in runs.items()]
    zero, symmetric = [(0, "")], [(0, "symmetric")]
    return [
        *angles,
        *bounds,
        Panel("Test error", "step", errors, y_label="test error, %", references=zero),
        Panel("Jacobian", "step", asymmetry, y_label="asymmetry", references=symmetric),
    ]


def _epochs(runs: list[Run], name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    tables = [run.table("epochs") for run in runs]
    return tables[0]["step"], [table[name] for table in tables]


def _table(runs: list[Run]) -> str:
    """A table of means over the seeds."""
    steps = _column(runs[0], "all", "step")
    shown = np.unique(np.linspace(0, len(steps) - 1, 7).astype(int))

    def means(parameter: str, name: str) -> np.ndarray:
        return np.mean([_column(run, parameter, name)[shown] for run in runs], 0)

    rows = [["step", *(str(step) for step in steps[shown])]]
    for parameter in ("all", *LAYERS):
        angles = means(parameter, "angle_degrees")
        rows.append([f"angle, {parameter}", *(f"{value:.1f}" for value in angles)])
    rows += [
        [name.replace("_", " "), *(f"{value:.3g}" for value in means("all", name))]
        for name in ("relative_error", "bound", "asymmetry", "residual")
    ]
    return markdown(rows[0], rows[1:])


if __name__ == "__main__":
    main()
