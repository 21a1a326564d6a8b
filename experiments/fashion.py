"""Fashion-MNIST by a convolutional network with independently drawn feedback kernels.

    python -m experiments.fashion --estimator asym-ep --out runs/fashion
    python -m experiments.fashion --estimator vector-field --out runs/fashion
    python -m experiments.fashion --dataset mnist --still --out runs/mnist
    python -m experiments.fashion --smoke

Two convolutional layers and a linear output. Every feedback kernel is a parameter of its own. It
starts weak and learns slowly, so that the phases keep settling in few steps. The images are those
of Debian's package dataset-fashion-mnist. The row of each epoch is appended to OUT/ESTIMATOR.jsonl,
and network and optimizer are saved to a checkpoint next to it; the same command resumes from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import Tensor

from bioplaus.costs import get_cost, one_hot
from bioplaus.data import Dataset, batches, load_dataset
from bioplaus.estimators import AbstractEstimator, make_estimator
from bioplaus.fields import Conv, Dense, Layer, LayeredField
from bioplaus.measuring import alignments
from bioplaus.phases import Settling, free_phase
from bridge.checkpoint import checkpoints, load_checkpoint, restore, save_checkpoint
from bridge.optim import Optimizer
from experiments.jobs import device_option

COST = get_cost("cross-entropy")


KERNEL = {"kernel": 5, "pool": "average"}
BACK = ("feedback.1", "feedback.2")


@dataclass(frozen=True)
class Size:
    """The size of a run.

    Attributes:
        channels: channels of the two layers.
        train, test: number of images; None uses all.
        epochs: passes over the training images.
    """

    channels: tuple[int, int] = (32, 64)
    train: int | None = None
    test: int | None = None
    epochs: int = 13


SMOKE = Size((4, 6), 400, 200, 2)


def network(size: Size, *, feedback: float, seed: int) -> LayeredField:
    """28 x 28 -> channels of 14 x 14 -> channels of 7 x 7 -> 10, all weights drawn independently.

    Args:
        size: the channels.
        feedback: gain of the feedback weights; 1 preserves a signal's size.
        seed: of the weights.
    """
    low, high = size.channels
    layers = [Layer((low, 14, 14), "clipped"), Layer((high, 7, 7), "clipped"), Layer(10, "linear")]
    connections = [
        Conv(0, 1, gain=2.0, **KERNEL),
        Conv(1, 2, gain=2.0, **KERNEL),
        Conv(2, 1, gain=feedback, feedback=True, **KERNEL),
        Dense(2, 3),
        Dense(3, 2, gain=feedback),
    ]
    generator = torch.Generator().manual_seed(seed)
    return LayeredField((1, 28, 28), layers, connections, generator=generator)


def mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the images left to right."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


@dataclass
class Course:
    """A part of a run, between two steps."""

    field: LayeredField
    estimator: AbstractEstimator
    optimizer: Optimizer
    data: Dataset
    batch: int
    mirror: bool
    seed: int

    def epoch(self, number: int, limit: int | None = None) -> dict[str, float]:
        """Train for one epoch, and give its measurements."""
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        out = {name: torch.empty_like(p) for name, p in self.field.parameters.items()}
        began, cpu, sums, seen = (
            time.perf_counter(),
            time.process_time(),
            torch.zeros(6, device=self.field.device),
            0,
        )
        for rows in _some(batches(len(self.data.train), self.batch, generator), limit):
            x = self.data.train.inputs[rows].view(-1, 1, 28, 28)
            if self.mirror:
                x = mirrored(x, generator)
            y = one_hot(self.data.train.targets[rows], 10, torch.float32)
            x, y = x.to(self.field.device), y.to(self.field.device)
            made = self.estimator(self.field, x, y, COST, out=out)
            self.optimizer.step(made.updates)
            z, free, nudged = made.free.s[:, self.field.output], made.free, made.nudged[0]
            values = [
                COST.value(z, y).mean(),
                100 * (z.argmax(1) != y.argmax(1)).float().mean(),
                100 * made.accepted.float().mean(),
                free.n_steps.float().mean(),
                nudged.n_steps.float().mean(),
                free.residual.median(),
            ]
            sums += len(rows) * torch.stack(values)
            seen += len(rows)
        names = ("cost", "train_error", "accepted", "free_steps", "nudged_steps", "residual")
        found = dict(zip(names, (sums / seen).tolist(), strict=True))
        spent = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        return {"epoch": number, **found, **spent, **alignments(self.field)}

    def error_rate(self) -> float:
        """Error rate on the test images, in percent."""
        wrong, test = 0, self.data.test
        for rows in batches(len(test), 200):
            x = test.inputs[rows].view(-1, 1, 28, 28).to(self.field.device)
            free = free_phase(self.field, x, settling=self.estimator.settling)
            predicted = free.s[:, self.field.output].argmax(1).cpu()
            wrong += int((predicted != test.targets[rows]).sum())
        return 100 * wrong / len(test)


def _some(items: Iterator[Tensor], limit: int | None) -> Iterator[Tensor]:
    for k, item in enumerate(items):
        if limit is not None and k >= limit:
            return
        yield item


def resumed(course: Course, folder: Path) -> int:
    """Restore the last checkpoint, and give the number of epochs done."""
    found = checkpoints(folder)
    if not found:
        return 0
    saved = load_checkpoint(found[-1])
    restore(course.field.parameters, saved.state["parameters"])
    course.optimizer.load_state_dict(saved.state["optimizer"])
    return saved.step


@click.command(help=__doc__)
@click.option("--estimator", type=click.Choice(["asym-ep", "vector-field"]), default="asym-ep")
@click.option("--dataset", default="fashion-mnist", help="Any of 28 x 28 images and ten classes.")
@click.option("--epochs", type=int, default=None)
@click.option("--rate", type=float, default=1e-3, help="Of Adam, with a cosine to zero.")
@click.option("--beta", type=float, default=0.5)
@click.option("--feedback", type=float, default=0.1, help="Gain of the way back at the start.")
@click.option("--slow", type=float, default=0.1, help="Rate of the way back over that of the rest.")
@click.option("--batch", type=int, default=50)
@click.option("--tolerance", type=float, default=1e-2)
@click.option("--mirror/--still", default=True, help="Exchange left and right of half the images.")
@device_option
@click.option("--threads", type=int, default=2)
@click.option("--seed", type=int, default=0)
@click.option("--limit", type=int, default=None, help="Steps of an epoch at most.")
@click.option("--smoke", is_flag=True, help="A small network on few images.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/fashion"))
def main(
    estimator: str,
    dataset: str,
    epochs: int | None,
    rate: float,
    beta: float,
    feedback: float,
    slow: float,
    batch: int,
    tolerance: float,
    mirror: bool,
    device: str,
    threads: int,
    seed: int,
    limit: int | None,
    smoke: bool,
    out: Path,
) -> None:
    torch.set_num_threads(threads)
    size = SMOKE if smoke else Size()
    epochs = epochs or size.epochs
    data = load_dataset(dataset, train_size=size.train, test_size=size.test)
    field = network(size, feedback=feedback, seed=seed).to(device)
    settling = Settling(tolerance=tolerance, free_steps=30, nudged_steps=20)
    optimizer = Optimizer(
        field.parameters,
        method="adam",
        learning_rate=rate,
        rates=dict.fromkeys(BACK, slow),
        schedule="cosine",
        total_steps=epochs * (limit or -(-len(data.train) // batch)),
    )
    rule = make_estimator(estimator, settling=settling, gate=0.1, beta=beta)
    course = Course(field, rule, optimizer, data, batch, mirror, seed)
    out.mkdir(parents=True, exist_ok=True)
    folder = out / f"{estimator}-checkpoints"
    for number in range(resumed(course, folder) + 1, epochs + 1):
        row = course.epoch(number, limit)
        row["test_error"] = course.error_rate()
        with (out / f"{estimator}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        state = {"parameters": dict(field.parameters), "optimizer": optimizer.state_dict()}
        save_checkpoint(folder, number, state, {})
        click.echo("  ".join(f"{name} {value:.4g}" for name, value in row.items()))


if __name__ == "__main__":
    main()
