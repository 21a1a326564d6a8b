"""What each remedy against a loop that stops settling costs in accuracy.

    python -m experiments.cifar10.remedies --data ../shared/data/cifar10 --processes 2

The row `asym-ep` of the table, with other settings. As for the table, a call works for 8 minutes
(--minutes), and the same call goes on until all runs have ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import torch

from experiments.cifar10.images import packed
from experiments.cifar10.judging import judged
from experiments.cifar10.pieces import ended, run_piece
from experiments.cifar10.plan import SIZES, arguments
from experiments.jobs import markdown

REMEDIES: dict[str, dict[str, object]] = {
    "limit": {},
    "lower-limit": {"contraction.limit": 0.3},
    "none": {"contraction.limit": None},
    "none-full-rate": {"contraction.limit": None, "optimizer.rates": "{}"},
    "full-rate": {"optimizer.rates": "{}"},
    "gain": {"network.feedback_gain": 0.3},
    "cap": {"contraction.limit": None, "contraction.cap": 0.03},
    "standardise": {"contraction.standardise": True},
    "damped": {"phases.solver": "damped-sweeps"},
}
"""Settings that differ from those of the table, by name; None leaves a setting out."""

COLUMNS = {
    "test, %": ("test accuracy of the log", ".1f"),
    "without feedback": ("accuracy without feedback", ".1f"),
    "residual": ("residual median", ".1e"),
    "99 %": ("residual 99 %", ".1e"),
    "radius": ("loop radius", ".2f"),
    "cosine": ("cosine", ".4f"),
    "s an epoch": ("seconds an epoch", ".0f"),
}


def tabulated(found: Mapping[str, Mapping[str, float]]) -> str:
    """Format the table: one row per remedy; only a run that ended has an accuracy."""
    rows = []
    for name, run in found.items():
        settings = [
            f"no {key}" if value is None else f"{key}={value}"
            for key, value in REMEDIES[name].items()
        ]
        cells = [f"{run[key]:{form}}" if key in run else "" for key, form in COLUMNS.values()]
        rows.append([f"`{', '.join(settings) or 'as in the table'}`", *cells])
    return markdown(["setting", *COLUMNS], rows)


@click.command(help=__doc__)
@click.option("--data", default="../shared/data/cifar10", help="Where the images are.")
@click.option("--size", type=click.Choice(list(SIZES)), default="narrow")
@click.option("--remedy", type=click.Choice(list(REMEDIES)), multiple=True, help="All by default.")
@click.option("--epochs", type=int, default=None)
@click.option("--seed", type=int, default=0)
@click.option("--processes", type=click.IntRange(min=1), default=1, help="Runs at a time.")
@click.option("--minutes", type=float, default=8.0, help="After which the run under way stops.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/cifar10"))
def main(
    data: str,
    size: str,
    remedy: Sequence[str],
    epochs: int | None,
    seed: int,
    processes: int,
    minutes: float,
    out: Path,
) -> None:
    torch.set_num_threads(1)
    chosen = SIZES[size]
    chosen = dataclasses.replace(chosen, epochs=epochs or chosen.epochs)
    dataset, common = packed(data, out), ["--device", "cpu", "--threads", "1"]
    jobs = {
        name: [*arguments("asym-ep", chosen, seed, dataset, last=REMEDIES[name]), *common]
        for name in remedy or REMEDIES
    }
    folder = out / f"remedies-{size}-{seed}"
    if not run_piece(jobs, folder, 60 * minutes, click.echo, processes):
        left = sum(ended(folder / f"{name}.h5") is None for name in jobs)
        click.echo(f"{left} of {len(jobs)} runs are left; the same command goes on")
        return
    click.echo(tabulated({name: judged(folder / f"{name}.h5", "cpu") for name in jobs}))


if __name__ == "__main__":
    main()
