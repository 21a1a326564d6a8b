"""CIFAR-10 from independent feedback: nine rules, one table.

    python -m experiments.cifar10 --data ../shared/data/cifar10 --size narrow
    python -m experiments.cifar10 --data DIR --size four --device cuda
    python -m experiments.cifar10 --data fashion-mnist --size smoke
    python -m experiments.cifar10 --data DIR --size four --device cuda --dry-run

A call works for 8 minutes (--minutes). The same call continues from there, in the middle of an
epoch if needed, until all runs have ended; then it prints the table. DIR is cifar-10-batches-bin, a
folder of images, or a folder with the archive of JPEG files; fashion-mnist is Debian's package.
--dry-run times a few updates of each rule and estimates the total time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from bioplaus.config import EqpropConfig, make_dataset
from bioplaus.training import build, train
from bridge.config import load_config
from experiments.cifar10.images import packed
from experiments.cifar10.judging import judged
from experiments.cifar10.pieces import ended, run_piece
from experiments.cifar10.plan import METHODS, SIZES, Size, arguments
from experiments.jobs import device_option, markdown

KEYS = {"--dataset": "data.dataset", "--seed": "seed"}
TIMED = 8
"""Number of updates for --dry-run, of which the first two are not counted."""


def loaded(job: Sequence[str]) -> EqpropConfig:
    """Make the config from arguments of `eqprop-run`."""
    given = list(zip(job[::2], job[1::2], strict=True))
    flags = {KEYS[option]: value for option, value in given if option in KEYS}
    flags["seed"] = int(flags["seed"])
    sets = [value for option, value in given if option == "--set"]
    return load_config(EqpropConfig, flags=flags, sets=sets)


class _Enough(Exception):
    """Raised when enough updates have been timed."""


def seconds_an_epoch(config: EqpropConfig, device: str) -> tuple[float, int]:
    """Estimate the time of an epoch's updates from some of them; also give their number."""
    few = config.data.model_copy(update={"train_size": TIMED * config.batch_size, "test_size": 1})
    rate = config.optimizer.model_copy(update={"warmup_steps": 0})  # that of a whole run is longer
    part = config.model_copy(update={"data": few, "epochs": 1, "optimizer": rate})
    run = build(part, device)
    whole = config.data.train_size or len(make_dataset(config.data).train)
    marks: list[float] = []

    def mark(record: Any) -> None:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        marks.append(time.perf_counter())
        if len(marks) == TIMED:
            raise _Enough

    with contextlib.suppress(_Enough):
        train(run, on_step=mark, on_epoch=lambda record: None)
    steps = [b - a for a, b in itertools.pairwise(marks[1:])]
    updates = -(-whole // config.batch_size)
    return updates * statistics.median(steps), updates


def timed(jobs: Mapping[str, Sequence[str]], device: str) -> None:
    """Print the estimated total time."""
    rows, total = [], 0.0
    rules: dict[str, list[EqpropConfig]] = {}
    for name, job in jobs.items():
        rules.setdefault(name.rpartition("-")[0], []).append(loaded(job))
    for rule, runs in rules.items():
        spent, updates = seconds_an_epoch(runs[0], device)
        total += len(runs) * runs[0].epochs * spent
        cells = [f"{spent:.1f}", str(updates), str(runs[0].epochs), str(len(runs))]
        rows.append([f"`{rule}`", *cells])
    click.echo(markdown(["rule", "seconds an epoch", "updates", "epochs", "runs"], rows))
    pieces = -(-total // 480)
    click.echo(f"in all {total / 60:.0f} minutes, without tests: {pieces:.0f} pieces of 8 minutes")


COLUMNS = {
    "test, %": ("test accuracy of the log", ".1f"),
    "without feedback": ("accuracy without feedback", ".1f"),
    "cosine, lowest layer": ("cosine.forward.1", ".3f"),
    "cosine, all": ("cosine", ".4f"),
    "to simulation": ("cosine to simulation", ".4f"),
    "residual": ("residual median", ".1e"),
    "99 %": ("residual 99 %", ".1e"),
    "radius": ("loop radius", ".2f"),
    "asymmetry": ("asymmetry", ".2f"),
    "angle, lowest": ("weight_angle.1", ".0f"),
    "moved": ("moved by top", ".1%"),
    "s an epoch": ("seconds an epoch", ".1f"),
}


def tabulated(found: Mapping[str, list[dict[str, float]]]) -> str:
    """Average over the seeds that succeeded, one row per rule; accuracies with their range."""
    rows = []
    for method, runs in found.items():
        good = [run for run in runs if "accuracy" in run]
        cells = []
        for name, form in COLUMNS.values():
            values = [_cell(run, name) for run in (good or runs)]
            known = [value for value in values if value == value]
            cell = f"{statistics.mean(known):{form}}" if known else ""
            if "accuracy" in name and len(known) > 1:
                cell += f" ({min(known):{form}} to {max(known):{form}})"
            cells.append(cell)
        rows.append([f"`{method}`", f"{len(good)} of {len(runs)}", *cells])
    return markdown(["rule", "settled", *COLUMNS], rows)


LAYERS = {
    "cosine of layer": ("cosine.forward.", ".3f"),
    "angle of pair": ("weight_angle.", ".0f"),
    "moved in layer": ("moved by feedback.", ".1%"),
}


def by_layer(found: Mapping[str, list[dict[str, float]]]) -> str:
    """Average the measures of single layers over the seeds that succeeded, one row per rule."""
    keys = {
        f"{title} {key.removeprefix(start)}": (key, form)
        for title, (start, form) in LAYERS.items()
        for key in sorted({key for runs in found.values() for run in runs for key in run})
        if key.startswith(start)
    }
    rows = []
    for method, runs in found.items():
        cells = []
        for key, form in keys.values():
            known = [run[key] for run in runs if key in run and run[key] == run[key]]
            cells.append(f"{statistics.mean(known):{form}}" if known else "")
        rows.append([f"`{method}`", *cells])
    return markdown(["rule", *keys], rows)


def _cell(run: Mapping[str, float], name: str) -> float:
    if name == "moved by top":  # of the hidden layers
        layers = [key for key in run if key.startswith("moved by feedback")]
        name = layers[-2] if len(layers) > 1 else ""
    return run.get(name, float("nan"))


@click.command(help=__doc__)
@click.option("--data", default="../shared/data/cifar10", help="Where the images are.")
@click.option("--size", type=click.Choice(list(SIZES)), default="narrow")
@click.option("--method", type=click.Choice(list(METHODS)), multiple=True, help="All if not given.")
@click.option("--seeds", type=int, default=None, help="Runs a rule.")
@click.option("--epochs", type=int, default=None)
@device_option
@click.option("--threads", type=int, default=1)
@click.option("--processes", type=click.IntRange(min=1), default=1, help="Runs at a time.")
@click.option("--minutes", type=float, default=8.0, help="After which the run under way stops.")
@click.option("--dry-run", is_flag=True, help="Say how long it all takes.")
@click.option("--set", "sets", multiple=True, help="key=value, for all runs.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/cifar10"))
def main(
    data: str,
    size: str,
    method: Sequence[str],
    seeds: int | None,
    epochs: int | None,
    device: str,
    threads: int,
    processes: int,
    minutes: float,
    dry_run: bool,
    sets: Sequence[str],
    out: Path,
) -> None:
    torch.set_num_threads(threads)
    chosen: Size = SIZES[size]
    if epochs is not None:
        chosen = dataclasses.replace(chosen, epochs=epochs)
    dataset = packed(data, out)
    more = dict(each.split("=", 1) for each in sets)
    common = ["--device", device, "--threads", str(threads)]
    jobs = {
        f"{size}-{rule}-{seed}": [*arguments(rule, chosen, seed, dataset, more), *common]
        for seed in range(seeds or chosen.seeds)
        for rule in method or METHODS
    }
    if dry_run:
        timed(jobs, device)
        return
    if not run_piece(jobs, out, 60 * minutes, click.echo, processes):
        left = sum(ended(out / f"{name}.h5") is None for name in jobs)
        click.echo(f"{left} of {len(jobs)} runs are left; the same command goes on")
        return
    found: dict[str, list[dict[str, float]]] = {}
    for name in jobs:
        rule = name.removeprefix(f"{size}-").rpartition("-")[0]
        found.setdefault(rule, []).append(judged(out / f"{name}.h5", device))
    (out / f"{size}.json").write_text(json.dumps(found, indent=1))
    click.echo(f"{tabulated(found)}\n\n{by_layer(found)}")


if __name__ == "__main__":
    main()
