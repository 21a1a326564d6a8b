"""MNIST in the second simulator: a network trained in torch runs in Brian2, and one trains there.

    python -m experiments.brian_mnist [--out FOLDER] [--images N]

First, `eqprop-run` trains 784-128-64-10 in torch on 5,000 images. The network then settles on test
images in torch and in Brian2, and the equal predictions are counted. Second, `eqprop-run --engine
brian2` trains 784-32-10 on 2,000 images with all phases in Brian2, and again in torch with the same
settings and seed. Needs the extra `brian`.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from bioplaus.config import restore_field
from bioplaus.data import load_dataset
from bioplaus.engines import Brian2
from bioplaus.fields import LeakyField
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Solution, Sweeps
from bridge.runlog import Run
from experiments.jobs import markdown, run_all, settings

TRANSFER = ["--hidden", "128", "64", "--epochs", "3", *settings(data__train_size=5000)]
TRAINED = [
    *("--hidden", "32", "--epochs", "8"),
    *settings(
        data__train_size=2000,
        data__test_size=1000,
        batch_size=20,
        phases__tolerance=1e-2,
        phases__free_steps=60,
        phases__nudged_steps=60,
    ),
]
JOBS = {
    "torch-128-64": TRANSFER,
    "brian2-32": [*TRAINED, "--engine", "brian2"],
    "torch-32": [*TRAINED, *settings(phases__solver="euler")],
}
TOLERANCE = 1e-7


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/brian-mnist"))
@click.option("--images", type=click.IntRange(1, 10_000), default=200)
def main(out: Path, images: int) -> None:
    runs = run_all(JOBS, out)
    run = runs["torch-128-64"]
    field = restore_field(run.config, run.weights()[1])
    field = field.with_parameters({k: p.double() for k, p in field.parameters.items()})
    data = load_dataset("mnist", dtype=torch.float64, train_size=1, test_size=images)
    ours = _settle(field, data.test.inputs, Settling(Sweeps(), TOLERANCE, 1000, 1000))
    theirs = _settle(field, data.test.inputs, Settling(Brian2(), TOLERANCE, 1000, 1000))
    guesses = [end.s[:, field.output].argmax(1) for end in (ours, theirs)]
    same = int((guesses[0] == guesses[1]).sum())
    right = [int((guess == data.test.targets).sum()) for guess in guesses]
    click.echo(f"\nsame predictions in torch and Brian2: {same} of {images}")
    click.echo(f"right: {right[0]} in torch, {right[1]} in Brian2")
    click.echo(f"largest difference of a state: {float((ours.s - theirs.s).abs().max()):.1e}\n")
    header = ["trained in", "training error, %", "test error, %", "seconds", "images/s"]
    rows = [[name, *_cells(runs[job])] for name, job in NAMES.items()]
    click.echo(markdown(header, rows))


NAMES = {"Brian2": "brian2-32", "torch": "torch-32"}


def _settle(field: LeakyField, x: torch.Tensor, settling: Settling) -> Solution:
    """Free fixed points; it refuses unsettled ones, which would make the experiment meaningless."""
    end = free_phase(field, x, settling=settling)
    if not bool(end.converged.all()):
        raise RuntimeError(f"{int((~end.converged).sum())} images did not settle")
    return end


def _cells(run: Run) -> list[str]:
    last = {name: column[-1] for name, column in run.table("epochs").items()}
    errors = [f"{last[name]:.1f}" for name in ("train_error", "test_error")]
    return [*errors, f"{last['seconds']:.0f}", f"{last['images_per_second']:.0f}"]


if __name__ == "__main__":
    main()
