"""Learning from votes on MNIST: exploitability by number of votes, rule and objective.

    python -m experiments.votes [--out FOLDER] [--seeds N] [--epochs N] [--only NAME ...]

The cyclic game, tau 0.05, 784-128-64-10 with feedback at 90 degrees; 5 to 15 minutes per run on one
thread. `backprop` is the adjoint gradient through the same network. Names ending in -1 use one vote
per image and epoch; `rlhf-10` fits its rewards to ten votes per image, cast before the run. Prints
the table of the docs, with the exact values of the game, certified by the oracle, and plots test
exploitability, of exact directions over epochs and of votes over their number.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from bridge.report.panels import Panel, caption_of_runs, draw_panels, over_runs
from bridge.runlog import Run
from experiments.jobs import Refusal, device_option, has_ended, markdown, run_all

RUNS: dict[str, list[str]] = {
    "asym-ep": [],
    "vector-field": ["--estimator", "vector-field"],
    "backprop": ["--estimator", "implicit"],
    "rlhf": ["--algorithm", "rlhf"],
    "asym-ep-1": ["--votes", "1"],
    "vector-field-1": ["--estimator", "vector-field", "--votes", "1"],
    "backprop-1": ["--estimator", "implicit", "--votes", "1"],
    "rlhf-10": ["--algorithm", "rlhf", "--votes", "10"],
}


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/votes"))
@click.option("--processes", type=int, default=1)
@click.option("--seeds", type=int, default=3)
@click.option("--epochs", type=int, default=10)
@device_option
@click.option("--only", multiple=True, type=click.Choice(list(RUNS)))
@click.option("--figure", type=click.Path(path_type=Path), default=Path("learning-from-votes.png"))
@click.option("--finished", is_flag=True, help="Report the runs that have finished, start none.")
def main(
    out: Path,
    processes: int,
    seeds: int,
    epochs: int,
    device: str,
    only: tuple[str, ...],
    figure: Path,
    finished: bool,
) -> None:
    names = only or tuple(RUNS)
    common = ["--epochs", str(epochs), "--threads", "1"]
    jobs = {
        f"{name}-seed-{seed}": [*RUNS[name], *common, "--seed", str(seed)]
        for seed in range(seeds)
        for name in names
        if not finished or has_ended(out / f"{name}-seed-{seed}.h5")
    }
    runs = run_all(jobs, out, processes, "eqprop-nash", device)
    ended = {
        name: [
            run
            for seed in range(seeds)
            if (run := runs.get(f"{name}-seed-{seed}")) and run.status == "finished"
        ]
        for name in names
    }
    if not any(ended.values()):
        raise Refusal(f"{out} holds no run that has finished; leave --finished out")
    rows = [[name, *_cells(mine, seeds)] for name, mine in ended.items()]
    header = ["run", "exploitability of each seed", "mean", "KL to the equilibrium", "support"]
    click.echo(markdown([*header, "cosine", "votes an image", "finished"], rows))
    known = next(run for mine in ended.values() for run in mine)
    click.echo(f"\nthe game: {_bounds(known)}")
    panels = [
        _panel(
            "Exact directions", "epoch", {n: r for n, r in ended.items() if not _voted(n)}, known
        ),
        _panel(
            "One vote per image and epoch",
            "thousand votes",
            {n: r for n, r in ended.items() if _voted(n)},
            known,
        ),
    ]
    drawn = [panel for panel in panels if panel.lines]
    draw_panels(figure, drawn, caption=_caption(ended, seeds))
    click.echo(f"figure: {figure}")


def _caption(ended: dict[str, list[Run]], seeds: int) -> str:
    fewer = [f"{name}: {len(runs)}" for name, runs in ended.items() if 0 < len(runs) < seeds]
    parts = [caption_of_runs(seeds) + (f" ({', '.join(fewer)})" if fewer else "")]
    if ended.get("rlhf-10"):
        parts.append("rlhf-10 casts all 600,000 votes before the run")
    return "; ".join(parts)


def _voted(name: str) -> bool:
    return "--votes" in RUNS[name]


def _cells(runs: list[Run], seeds: int) -> list[str]:
    if not runs:
        return ["-"] * 6 + [f"0 of {seeds}"]
    last = {
        name: [float(run.table("epochs")[name][-1]) for run in runs]
        for name in (
            *("exploitability", "kl_to_equilibrium", "support_mass", "gradient_cosine", "votes"),
        )
    }
    return [
        ", ".join(f"{value:.4f}" for value in last["exploitability"]),
        f"{np.mean(last['exploitability']):.4f}",
        f"{np.mean(last['kl_to_equilibrium']):.3f}",
        f"{np.mean(last['support_mass']):.3f}",
        f"{np.mean(last['gradient_cosine']):.4f}",
        f"{np.mean(last['votes']) / 60_000:.0f}" if max(last["votes"]) else "exact",
        f"{len(runs)} of {seeds}",
    ]


def _summary(run: Run) -> dict[str, float]:
    return next(event["of"] for event in run.events if event["kind"] == "summary")


def _bounds(run: Run) -> str:
    names = ("equilibrium", "rlhf", "uniform")
    bounds = [f"{name} {_summary(run)[f'{name}_exploitability']:.4f}" for name in names]
    worst = max(e["of"]["certificate"] for e in run.events if e["kind"] == "context")
    return f"{', '.join(bounds)}; KL of the computed equilibrium at most {worst:.1g} in any context"


def _panel(title: str, x_label: str, ended: dict[str, list[Run]], known: Run) -> Panel:
    """The exploitability of each rule over epochs or, if it learns from votes, over thousands."""
    lines = []
    for number, (name, runs) in enumerate(ended.items()):
        if runs:
            tables = [run.table("epochs") for run in runs]
            x = tables[0]["epoch"] * (60 if _voted(name) else 1)
            columns = [table["exploitability"] for table in tables]
            lines.append(over_runs(name, x, columns, number))
    exact = [
        (_summary(known)[f"{n}_exploitability"], f"{n}, exact") for n in ("equilibrium", "rlhf")
    ]
    return Panel(
        title,
        x_label,
        lines,
        logarithmic=True,
        y_label="exploitability on test images",
        references=exact,
    )


if __name__ == "__main__":
    main()
