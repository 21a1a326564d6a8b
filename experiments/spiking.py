"""How well spikes carry the gradient: its angle by neurons per unit, rate and integration time.

    python -m experiments.spiking [--seeds N] [--figure FILE.png]

20-30-10, sigmoid, tied weights, activity coordinates, 5 inputs, squared error, beta = 0.1. Neurons
per unit, rate and time are varied one at a time. The true gradient is the implicit gradient of the
rate network, and the floor is the rate network's own estimate at the same beta. Needs the extra
`brian`.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch

from bioplaus.engines import Course, Population, spiking_estimate
from bioplaus.estimators import estimate_gradient
from bioplaus.fields import LeakyField
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Sweeps
from bridge.progress import progress
from bridge.report.panels import Panel, caption_of_runs, draw_panels, over_runs
from experiments.jobs import markdown

BETA = 0.1
BASE = {"neurons": 16, "rate": 100, "time": 500}
SWEEPS = {
    "neurons": (4, 16, 64, 256),
    "rate": (25, 100, 400),
    "time": (125, 500, 2000),
}
LABELS = {"neurons": "neurons a unit", "rate": "largest rate, Hz", "time": "integration time, ms"}
TITLES = {"neurons": "More neurons", "rate": "Faster neurons", "time": "Longer phases"}
SETUP = "20-30-10; where not varied 16 neurons a unit, 100 Hz, 500 ms"
TIGHT = Settling(Sweeps(), 1e-12, 2000, 2000)


@click.command(help=__doc__)
@click.option("--seeds", type=click.IntRange(min=1), default=4)
@click.option("--figure", type=click.Path(path_type=Path), default=Path("spiking.png"))
def main(seeds: int, figure: Path) -> None:
    field, x, y = _problem()
    truth = _flat(estimate_gradient(field, x, y, estimator="implicit", settling=TIGHT).updates)
    own = estimate_gradient(field, x, y, beta=BETA, settling=TIGHT).updates
    floor, fixed = _angle(_flat(own), truth), free_phase(field, x, settling=TIGHT).s
    points = {(*(BASE | {what: v}).values(),) for what, vs in SWEEPS.items() for v in vs}
    found = {}
    with progress(2 * len(points) * seeds, "simulations", quiet=False) as bar:
        for code in ("poisson", "lif"):
            for point in sorted(points):
                for seed in range(seeds):
                    run = _run(field, x, y, code, point, seed)
                    error = float((run.free - fixed).pow(2).mean().sqrt())
                    angle = _angle(_flat(run.updates), truth)
                    found.setdefault((code, point), []).append((angle, error, run.spikes))
                    bar.advance(1)
    click.echo(f"\nthe rate network's own angle at beta={BETA}: {floor:.2f} degrees\n")
    header = ["code", "neurons a unit", "rate, Hz", "time, ms"]
    header += ["angle, degrees: mean (smallest to largest)", "error of the free state", "spikes"]
    click.echo(markdown(header, [_row(*key, np.array(v)) for key, v in found.items()]))
    panels = [_panel(what, found, floor) for what in SWEEPS]
    draw_panels(figure, panels, columns=3, caption=f"{SETUP}; {caption_of_runs(seeds)}")
    for panel in panels:
        for line in panel.lines:
            slope = np.polyfit(np.log(line.x), np.log(np.asarray(line.y)), 1)[0]
            click.echo(f"{line.label}: angle ~ ({panel.x_label})^{slope:.2f}")
    click.echo(f"\nfigure: {figure}")


def _problem() -> tuple[LeakyField, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    field = LeakyField(
        (20, 30, 10),
        "sigmoid",
        coordinates="activity",
        tied=True,
        gain=0.7,
        generator=g,
        dtype=torch.float64,
    )
    x = torch.rand(5, 20, generator=g, dtype=torch.float64)
    return field, x, torch.randint(10, (5,), generator=g)


def _run(field, x, y, code, point, seed):
    cells, rate, time = point
    return spiking_estimate(
        field,
        x,
        y,
        beta=BETA,
        population=Population(cells, f"{rate} Hz", code),
        course=Course(free=f"{time} ms", nudged=f"{time} ms"),
        seed=seed,
    )


def _flat(updates: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([update.flatten() for update in updates.values()])


def _angle(u: torch.Tensor, v: torch.Tensor) -> float:
    cosine = (u @ v) / (u.norm() * v.norm())
    return float(torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))))


def _row(code: str, point: tuple[int, ...], runs: np.ndarray) -> list[str]:
    angles, errors, spikes = runs.T
    spread = f"{angles.mean():.1f} ({angles.min():.1f} to {angles.max():.1f})"
    return [code, *map(str, point), spread, f"{errors.mean():.4f}", f"{spikes.mean():,.0f}"]


def _panel(what: str, found: dict, floor: float) -> Panel:
    values, lines = SWEEPS[what], []
    for code in ("poisson", "lif"):
        rows = [[a for a, *_ in found[code, (*(BASE | {what: v}).values(),)]] for v in values]
        lines.append(over_runs(code, values, np.transpose(rows)))
    return Panel(
        TITLES[what],
        LABELS[what],
        lines,
        logarithmic=True,
        x_logarithmic=True,
        y_label="angle to the gradient, degrees",
        references=[(floor, "rate network")],
    )


if __name__ == "__main__":
    main()
