"""MNIST from independent random weights: the exact rule against the plain one, five seeds each.

    python -m experiments.learning_table [--out FOLDER] [--processes N] [--seeds N]

Runs `configs/mnist-512-asym-ep.toml` ten times (2.5 minutes each) and
`configs/mnist-3x512-asym-ep.toml` ten times (8 minutes each); prints the table of the docs.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from experiments.jobs import device_option, markdown, run_all

NETWORKS = {
    "784-512-10": "configs/mnist-512-asym-ep.toml",
    "784-512-512-512-10": "configs/mnist-3x512-asym-ep.toml",
}
ESTIMATORS = ("asym-ep", "vector-field")


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/learning-table"))
@click.option("--processes", type=int, default=1)
@click.option("--seeds", type=int, default=5)
@device_option
def main(out: Path, processes: int, seeds: int, device: str) -> None:
    jobs = {
        f"{network}-{estimator}-{seed}": [
            *(config, "--estimator", estimator, "--seed", str(seed)),
        ]
        for network, config in NETWORKS.items()
        for estimator in ESTIMATORS
        for seed in range(seeds)
    }
    runs = run_all(jobs, out, processes, device=device)
    rows = []
    for network in NETWORKS:
        for estimator in ESTIMATORS:
            mine = [runs[f"{network}-{estimator}-{seed}"] for seed in range(seeds)]
            ends = [run.table("epochs") for run in mine if run.status == "finished"]
            test = [table["test_error"][-1] for table in ends]
            rows.append(
                [
                    network,
                    f"`{estimator}`",
                    ", ".join(f"{value:.2f}" for value in test),
                    f"{np.mean(test):.2f}",
                    f"{np.mean([t['train_error'][-1] for t in ends]):.3f}",
                    f"{len(ends)} of {seeds}",
                    f"{max(t['free_residual'].max() for t in ends):.1e}",
                    f"{np.mean([t['seconds'][-1] for t in ends]):.0f}",
                ]
            )
    header = ["network", "estimator", "test error, %", "mean", "training error, %", "stable"]
    click.echo(markdown([*header, "largest residual", "seconds"], rows))


if __name__ == "__main__":
    main()
