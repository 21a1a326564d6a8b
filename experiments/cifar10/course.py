"""Residual, radius and cosines during training, with and without contraction control.

    python -m experiments.cifar10.course --data ../shared/data/cifar10 --epochs 20
        [--figure FILE.png]

The narrow network, with feedback drawn at a gain of 0.3 and learning at the full rate: in this
setting alignment increases the gain of the loop. One run with the controller, one without. The row
of each epoch is appended to OUT/course-NAME.jsonl; both are printed as tables and drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from bioplaus import AsymEP, Augment, Contraction, Settling, fit
from bioplaus.costs import get_cost
from bioplaus.data import Dataset, load_dataset
from bioplaus.data.normalising import normalised
from bioplaus.estimators import Implicit
from bioplaus.fields import LayeredField
from bioplaus.fields.convolutional import convolutional
from bridge.errors import RunFailed
from bridge.report.panels import Line, Panel, draw_panels
from bridge.seeding import generator
from experiments.cifar10.images import packed
from experiments.cifar10.measures import EXACT, cosine, of_states, without_feedback
from experiments.jobs import markdown

SETTLING = Settling(tolerance=0, free_steps=4, nudged_steps=6, verify=False)
COST = get_cost("cross-entropy")
CHECKED = 10
"""Number of training examples on which updates are compared with the true gradient."""
LAYERS = {f"cosine.forward.{k}": f"layer {k}" for k in range(1, 5)} | {
    "cosine.forward.5": "output layer"
}
"""Names of the layers of the narrow network, by the key of their cosine."""


def cosines(field: LayeredField, data: Dataset) -> dict[str, float]:
    """Cosines of the update to the true gradient: over all weights, and per forward weight."""
    x = data.train.inputs[:CHECKED].view(CHECKED, *(field.input or ()))
    y = data.vectors(data.train.targets[:CHECKED], torch.float32)
    update = AsymEP(settling=SETTLING)(field, x, y, COST).updates
    true = Implicit(settling=EXACT)(field.precise(), x.double(), y.double(), COST).updates
    names = [name for name in true if name.startswith("forward")]
    found = {f"cosine.{name}": cosine({name: update[name]}, true) for name in names}
    return {"cosine": cosine(update, true), **found}


def course(
    data: Dataset, contraction: Contraction | None, how: dict[str, Any], out: Path, every: int
) -> list[dict[str, float]]:
    """Train, and measure after each epoch."""
    shape = data.image_shape
    assert shape is not None
    weights = generator(how["seed"], "weights")
    settings = {"channels": (16, 32, 64, 64), "feedback_gain": 0.3, "generator": weights}
    field = convolutional(shape, data.num_outputs, **settings)
    x = data.test.inputs[:500].view(-1, *shape)
    rows: list[dict[str, float]] = []

    def measure(row: Any) -> None:
        found = {"epoch": row.epoch, "test": 100 - row.test_error, "accepted": row.accepted}
        found |= {"seconds": row.seconds, "scale": getattr(row, "feedback_scale", 1.0)}
        found |= of_states(field, without_feedback(field), x, SETTLING)
        if row.epoch % every == 0:
            found |= cosines(field, data)
        rows.append(found)
        with out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        shown = ("epoch", "test", "accepted", "residual 99 %", "loop radius", "scale", "cosine")
        click.echo("  ".join(f"{name} {found[name]:.4g}" for name in shown if name in found))

    try:
        fit(
            field,
            data,
            estimator=AsymEP(),
            settling=SETTLING,
            gate=0.1,
            contraction=contraction,
            callbacks=measure,
            check_rows=4,
            **how,
        )
    except RunFailed as error:
        click.echo(f"failed after epoch {len(rows)}: {error}")
    return rows


def course_table(rows: Sequence[dict[str, float]]) -> str:
    """Format the table of a course."""
    columns = {
        "epoch": ".0f",
        "test": ".1f",
        "accepted": ".0%",
        "residual median": ".1e",
        "residual 99 %": ".1e",
        "loop radius": ".2f",
        "scale": ".0e",
        "cosine.forward.1": ".3f",
        "cosine": ".4f",
    }
    cells = [
        [f"{row[name]:{form}}" if name in row else "" for name, form in columns.items()]
        for row in rows
    ]
    return markdown(list(columns), cells)


def figure_of(found: Mapping[str, Sequence[dict[str, float]]]) -> list[Panel]:
    """Draw the courses: residual, radius, cosine of each layer, and accuracy, over epochs."""

    def lines(key: str) -> list[Line]:
        return [_line(f"{name} the controller", rows, key) for name, rows in found.items()]

    cosines = [
        Panel(
            f"Update and gradient, {name} the controller",
            "epoch",
            [_line(label, rows, key) for key, label in LAYERS.items()],
            y_label="cosine",
            references=[(0, "no signal"), (1, "")],
        )
        for name, rows in found.items()
        if any("cosine" in row for row in rows)
    ]
    return [
        Panel(
            "Residual of the free phase",
            "epoch",
            lines("residual 99 %"),
            logarithmic=True,
            y_label="99th percentile of 500 images",
            references=[(1e-2, "asked")],
        ),
        Panel(
            "Spectral radius of the loop",
            "epoch",
            lines("loop radius"),
            y_label="spectral radius",
            references=[(1, "unstable")],
        ),
        *cosines,
        Panel(
            "Test accuracy",
            "epoch",
            lines("test"),
            y_label="correct, %",
            references=[(10, "chance")],
        ),
    ]


def _line(label: str, rows: Sequence[dict[str, float]], key: str) -> Line:
    known = [row for row in rows if key in row]
    return Line(label, [row["epoch"] for row in known], [row[key] for row in known])


@click.command(help=__doc__)
@click.option("--data", default="../shared/data/cifar10", help="Where the images are.")
@click.option("--train", type=int, default=2000)
@click.option("--test", type=int, default=1000)
@click.option("--epochs", type=int, default=20)
@click.option("--rate", type=float, default=4e-3, help="Of Adam, constant.")
@click.option("--residual", type=float, default=2e-3, help="That the controller is to keep.")
@click.option("--every", type=int, default=20, help="Updates between the controller's looks.")
@click.option("--cosines", "checks", type=int, default=5, help="Epochs between comparisons.")
@click.option("--only", type=click.Choice(["with", "without"]), default=None)
@click.option("--seed", type=int, default=0)
@click.option("--figure", type=click.Path(path_type=Path), default=None)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/cifar10"))
def main(
    data: str,
    train: int,
    test: int,
    epochs: int,
    rate: float,
    residual: float,
    every: int,
    checks: int,
    only: str | None,
    seed: int,
    figure: Path | None,
    out: Path,
) -> None:
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    loaded = load_dataset(packed(data, out), train_size=train, test_size=test)
    images = normalised(loaded, "standardise")
    how = {"epochs": epochs, "batch_size": 50, "learning_rate": rate, "schedule": "constant"}
    how |= {"seed": seed, "augment": Augment(mirror=True)}
    kinds = {"with": Contraction(residual=residual, every=every), "without": None}
    found = {}
    for name, contraction in kinds.items():
        if only in (None, name):
            path = out / f"course-{name}.jsonl"
            path.unlink(missing_ok=True)
            found[name] = course(images, contraction, how, path, checks)
    for name, rows in found.items():
        click.echo(f"\n{name} the controller\n\n{course_table(rows)}")
    if figure is not None:
        caption = f"{train:,} images, narrow network, feedback learns at the full rate; one seed"
        draw_panels(figure, figure_of(found), caption=caption)
        click.echo(f"\nfigure: {figure}")


if __name__ == "__main__":
    main()
