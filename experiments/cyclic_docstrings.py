"""Compare methods on real text where they can differ: three raters with a cyclic majority.

    python -m experiments.cyclic_docstrings [--out FOLDER] [--processes N] [--steps N] [--seeds N]
        [--only NAME]...

SmolLM2 summarises docstrings, as in `experiments.docstrings`, from the same kind of warm start. The
preference is the decision of a majority of three raters, who prefer short answers to full ones,
full ones to well-styled ones and these to short ones (`experiments.cyclic_raters`). Trained are
Nash-MD at five mixture weights, Nash-EMA, and RLHF on a reward that such votes imply, with three
seeds each. All answer the docstrings of held-out packages. Prints win rates against RLHF with
95 % intervals by resampling prompts and seeds, and whether the win rate as a function of the
mixture weight has a single interior peak, as Munos et al. report. Existing results in FOLDER are
reused, if their settings are the same. `runs watch FOLDER` shows the runs while they train.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from bridge import open_run
from bridge.disk import replace_file
from bridge.progress import progress
from bridge.report.panels import Line, Panel, draw_panels
from experiments.cyclic_raters import features, majority, utilities
from experiments.docstrings import LENGTH, place, write_examples
from experiments.jobs import (
    CLI,
    await_all,
    device_option,
    keep_settings,
    markdown,
    settings,
    workers,
)
from nlhf.config import LanguageConfig
from nlhf.language.corpora import docstrings
from nlhf.language.decoding import Sampling
from nlhf.language.loading import load_policy
from nlhf.language.saving import save_policy
from nlhf.language.tournament import answers_of
from nlhf.training import LanguageRecord, build_language, train_language

WEIGHTS = (0.0, 0.125, 0.25, 0.5, 1.0)
RLHF, EMA, WARM = "rlhf", "nash-ema", "warm start"
POLICIES = (*(f"nash-md {w:g}" for w in WEIGHTS), EMA, RLHF)
RATERS = "experiments.cyclic_raters:raters"
DRAWS = 4
"""Answers of each policy to each held-out docstring."""
RESAMPLES = 2000
Answers = list[list[str]]
"""One list of N answers per draw."""
Rates = dict[str, tuple[float, np.ndarray]]
"""Of each policy against the same opponent: the mean of P, and its resamples [RESAMPLES]."""


def configs(folder: Path, steps: int, seed: int) -> dict[str, LanguageConfig]:
    """The config of each run, by its name."""
    common: dict[str, Any] = {
        "model": str(folder / "warm-start"),
        "prompts": str(folder / "prompts.jsonl"),
        "preference": RATERS,
        "iterations": steps,
        "batch_size": 2,
        "samples": 4,
        "kl": "full",
        "tau": 0.05,
        "lora": {"rank": 8, "targets": ("q_proj", "v_proj")},
        "generation": {"max_new_tokens": LENGTH},
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 5, "schedule": "cosine"},
        "seed": seed,
    }
    three = {"opponents": 3}
    found = {f"nash-md {w:g}": {**common, **three, "mixture": w} for w in WEIGHTS}
    found[EMA] = {**common, **three, "algorithm": "nash-ema"}
    scalar = {"algorithm": "rlhf", "reward": "experiments.cyclic_raters:reward"}
    # the slope of P is at most a quarter of the reward's: four times the tau is the same trade-off
    found[RLHF] = {**common, **scalar, "tau": 0.2}
    return {name: LanguageConfig(**values) for name, values in found.items()}


def train(folder: Path, name: str, steps: int, seed: int, device: str) -> None:
    """Train one policy, with a log beside it."""
    target = _place(folder, name, seed)
    if target.is_dir():
        return
    config = configs(folder, steps, seed)[name]
    run = build_language(config, device)
    with open_run(
        target.with_name(target.name + ".h5"),
        tables={"metrics": LanguageRecord},
        config=config,
        seed=seed,
        overwrite=True,
        command=sys.argv,
        dataset=run.source,
    ) as log:
        train_language(run, on_record=lambda record: log.log("metrics", record))
    save_policy(run.policy, target, {"algorithm": name, "steps": steps, "seed": seed})


def answer(spec: Path, prompts: Sequence[str], device: str) -> Answers:
    """Sample a policy's answers, with the same random numbers for all policies."""
    path = spec.with_name(spec.name + ".answers.json")
    if not path.is_file():
        g = torch.Generator().manual_seed(0)
        given = (str(spec), prompts, Sampling(LENGTH), g)
        found = answers_of(*given, draws=DRAWS, batch_size=16, device=device)
        replace_file(path, json.dumps(found).encode())
    return json.loads(path.read_text("utf-8"))


def train_and_answer(
    folder: Path, name: str, steps: int, seed: int, prompts: Sequence[str], device: str
) -> Answers:
    """Train one policy, and let it answer."""
    train(folder, name, steps, seed, device)
    return answer(_place(folder, name, seed), prompts, device)


def _place(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name.replace(' ', '-')}-seed-{seed}"


def against(wins: np.ndarray, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """The mean of wins [seeds, seeds of the opponent, prompts], and its resamples [RESAMPLES].

    Prompts and the seeds of both sides are resampled, each as a whole.
    """
    s, t, n = wins.shape
    drawn = []
    for _ in range(RESAMPLES):
        i, j, k = (rng.integers(m, size=m) for m in (s, t, n))
        drawn.append(wins[np.ix_(i, j, k)].mean())
    return float(wins.mean()), np.array(drawn)


def measured(
    measure: Callable[[Sequence[str], Sequence[str]], Tensor],
    prompts: Sequence[str],
    runs: Sequence[Answers],
) -> Tensor:
    """A measure [B, 3] of prompts and answers, of all answers of a policy: [seeds, DRAWS, N, 3]."""
    flat = [y for run in runs for draw in run for y in draw]
    return measure(list(prompts) * (len(flat) // len(prompts)), flat).reshape(
        len(runs), -1, len(prompts), 3
    )


def compare(utility: Mapping[str, Tensor], other: str) -> Rates:
    """P of each policy against another one, over all pairs of seeds and of answers to a prompt.

    Args:
        utility: of each policy's answers to each rater, [seeds, DRAWS, N, 3].
        other: the opponent's name.

    Returns:
        the mean and its resamples, by the policy's name.
    """
    found = {}
    for name, mine in utility.items():
        wins = majority(mine[:, None, :, None], utility[other][None, :, None]).mean((2, 3))
        # all policies are resampled in the same way, so that their differences are meaningful
        found[name] = against(wins.numpy(), np.random.default_rng(0))
    return found


def weights_in(found: Container[str]) -> list[float]:
    """The mixture weights of the policies that were trained."""
    return [w for w in WEIGHTS if f"nash-md {w:g}" in found]


def shape(found: Rates) -> str:
    """Say whether the win rate has an interior peak over mixture weights, and how sure that is."""
    weights = weights_in(found)
    names = [f"nash-md {w:g}" for w in weights]
    means = np.array([found[name][0] for name in names])
    drawn = np.stack([found[name][1] for name in names])
    best = drawn.argmax(0)
    inside = float(((best > 0) & (best < len(names) - 1)).mean())
    top = int(means.argmax())
    rises = np.diff(means) > 0
    single = not any(b and not a for a, b in itertools.pairwise(rises))
    kind = "one interior peak" if single and 0 < top < len(names) - 1 else "no single interior peak"
    bounds = np.percentile(drawn[top] - drawn, [2.5, 97.5], axis=1)
    others = [
        f"above weight {w:g} by {means[top] - mean:.3f} [{low:.3f}, {high:.3f}]"
        for w, mean, low, high in zip(weights, means, *bounds, strict=True)
        if w != weights[top]
    ]
    return (
        f"{kind}: the largest rate is at weight {weights[top]:g}; it is inside in {inside:.0%} of "
        f"resamples; {', '.join(others)}"
    )


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/cyclic-docstrings"))
@click.option("--model", default="smollm2")
@click.option("--processes", type=int, default=2)
@click.option("--steps", type=int, default=80)
@click.option("--seeds", type=int, default=3)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(POLICIES),
    help="Default all; rlhf always.",
)
@click.option("--examples", type=int, default=320, help="Of the warm start.")
@click.option("--held-out", type=int, default=195)
@device_option
@click.option("--figure", type=click.Path(path_type=Path), default=Path("cyclic-docstrings.png"))
def main(
    out: Path,
    model: str,
    processes: int,
    steps: int,
    seeds: int,
    only: tuple[str, ...],
    examples: int,
    held_out: int,
    device: str,
    figure: Path,
) -> None:
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    keep_settings(out, model=model, steps=steps, examples=examples, held_out=held_out)
    torch.set_num_threads(1)
    items = sorted(docstrings(), key=lambda item: len(item.prompt))
    learn = [item for item in items if not item.held_out]
    tried = [item.prompt for item in items if item.held_out][:held_out]
    count = 2 * steps  # prompts of a run, each used once
    write_examples(out / "prompts.jsonl", learn[:count])
    write_examples(out / "examples.jsonl", learn[count : count + examples])
    _warm(out, model, processes, device)
    names = [name for name in POLICIES if name in (*only, RLHF) or not only]
    texts = _texts(out, names, steps, seeds, tried, processes, device)
    utility = {name: measured(utilities, tried, runs) for name, runs in texts.items()}
    kinds = {name: measured(features, tried, runs) for name, runs in texts.items()}
    found = {other: compare(utility, other) for other in texts}
    click.echo(_table(found, {name: each.mean((0, 1, 2)) for name, each in kinds.items()}))
    if weights_in(found[RLHF]):
        click.echo("\n" + shape(found[RLHF]))
        _draw(found[RLHF], figure)
        click.echo(f"figure: {figure}")
    click.echo(f"minutes: {(time.perf_counter() - began) / 60:.1f}")


def _texts(
    out: Path,
    names: Sequence[str],
    steps: int,
    seeds: int,
    tried: Sequence[str],
    processes: int,
    device: str,
) -> dict[str, list[Answers]]:
    """The answers of each seed of each policy; trains those that are not there."""
    click.echo(f"runs: {out}", err=True)
    bar = progress(1 + seeds * len(names), "policies", quiet=False)
    with workers(processes) as pool, bar as shown:
        first = pool.submit(answer, place(out, WARM), tried, device)
        given = {
            (name, seed): pool.submit(train_and_answer, out, name, steps, seed, tried, device)
            for seed in range(seeds)
            for name in names
        }
        await_all([first, *given.values()], shown)
    own = {name: [given[name, seed].result() for seed in range(seeds)] for name in names}
    return {WARM: [first.result()], **own}


def lowest(found: Mapping[str, Rates], name: str) -> tuple[str, float]:
    """The opponent, among the other policies, that a policy does worst against, and its P."""
    rates = {other: each[name][0] for other, each in found.items() if other != name}
    worst = min(rates, key=lambda other: rates[other])
    return worst, rates[worst]


def _table(found: Mapping[str, Rates], shares: Mapping[str, Tensor]) -> str:
    rows = []
    for name, kinds in shares.items():
        cells = [name]
        for other in (WARM, RLHF):
            mean, drawn = found[other][name]
            low, high = np.percentile(drawn, [2.5, 97.5])
            cells.append("" if name == other else f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        worst, rate = lowest(found, name)
        cells.append(f"{rate:.3f} ({worst})")
        rows.append(cells + [f"{value:.2f}" for value in kinds.tolist()])
    header = [
        "policy",
        "P against the warm start",
        "P against rlhf",
        "lowest P",
        "short",
        "style",
        "content",
    ]
    return markdown(header, rows)


def _draw(found: Rates, figure: Path) -> None:
    weights = weights_in(found)
    drawn = [found[f"nash-md {w:g}"] for w in weights]
    low, high = np.percentile([each for _, each in drawn], [2.5, 97.5], axis=1)
    curve = Line("nash-md", weights, [mean for mean, _ in drawn], low, high)
    panel = Panel(
        "Nash-MD against RLHF, held-out docstrings",
        "weight of the reference in the mixture",
        [curve],
        y_label="P(policy preferred to RLHF)",
        references=[(0.5, "a draw"), *((found[n][0], n) for n in (EMA, WARM) if n in found)],
    )
    draw_panels(figure, [panel], caption="band: 95 % interval")


def _warm(out: Path, model: str, threads: int, device: str) -> None:
    folder = place(out, WARM)
    if folder.is_dir():
        return
    base = out / "base"
    if not base.is_dir():
        save_policy(load_policy(model, reference=False), base, {"algorithm": "none"})
    chosen = settings(lora__rank=8, optimizer__learning_rate=1e-3, optimizer__schedule="cosine")
    command = [sys.executable, str(CLI), "warm-start", "--model", str(base), *chosen, "--quiet"]
    command += ["--examples", str(out / "examples.jsonl"), "--save", str(folder), "--overwrite"]
    command += ["--out", str(place(out, WARM, ".h5")), "--threads", str(threads)]
    command += ["--device", device]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
