"""What stabilises the training of three layers from independent weights, and what it costs.

    python -m experiments.stability [--out FOLDER] [--processes N] [--epochs N]

Trains `configs/mnist-3x512-asym-ep.toml` with one mechanism changed at a time, three epochs each.
"""

from __future__ import annotations

from pathlib import Path

import click

from bridge.runlog import Run
from experiments.jobs import device_option, markdown, run_all, settings

CONFIG = "configs/mnist-3x512-asym-ep.toml"
VARIANTS = {
    "as configured": {},
    "every row enters the update (no gate)": {"phases__gate": 1e30},
    "no weight decay": {"optimizer__weight_decay": 0.0},
    "feedback learns as fast as feedforward": {"optimizer__rates": "{feedback=1.0}"},
    "feedback is left as drawn": {"optimizer__rates": "{feedback=0.0}"},
    "feedback as strong as feedforward at the start": {"network__feedback_gain": 1.0},
    "rate 3e-3": {"optimizer__learning_rate": 3e-3},
    "rate 3e-3, no weight decay, feedback as fast": {
        "optimizer__learning_rate": 3e-3,
        "optimizer__weight_decay": 0.0,
        "optimizer__rates": "{feedback=1.0}",
    },
}


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/stability"))
@click.option("--processes", type=int, default=1)
@click.option("--epochs", type=int, default=3)
@device_option
def main(out: Path, processes: int, epochs: int, device: str) -> None:
    jobs = {
        f"variant-{i}": [CONFIG, "--epochs", str(epochs), *settings(**changed)]
        for i, changed in enumerate(VARIANTS.values())
    }
    runs = run_all(jobs, out, processes, device=device)
    header = ["what is changed", "training error, %", "test error, %", "rows settled, %"]
    header += ["rows in the update, %", "sweeps, free + nudged", "largest residual", "seconds"]
    rows = [[name, *_cells(runs[job])] for name, job in zip(VARIANTS, jobs, strict=True)]
    click.echo(markdown(header, rows))


def _cells(run: Run) -> list[str]:
    epochs, steps = run.table("epochs"), run.table("metrics")
    if run.status != "finished":
        return [f"diverged at step {steps['step'][-1]}", *[""] * 6]
    residual = max(steps["free_residual"].max(), steps["nudged_residual"].max())
    return [
        f"{epochs['train_error'][-1]:.2f}",
        f"{epochs['test_error'][-1]:.2f}",
        f"{100 * epochs['converged'][-1]:.1f}",
        f"{100 * epochs['accepted'].min():.2f}",
        f"{epochs['free_steps'][-1]:.1f} + {epochs['nudged_steps'][-1]:.1f}",
        f"{residual:.1e}",
        f"{epochs['seconds'][-1]:.0f}",
    ]


if __name__ == "__main__":
    main()
