"""Compare methods on real text where they can differ: three raters with a cyclic majority.

    python -m experiments.cyclic_docstrings [--out FOLDER] [--processes N] [--steps N] [--seeds N]

SmolLM2 summarises docstrings, as in `experiments.docstrings`, from the same kind of warm start. The
preference is the mean of three raters. Each measures how short an answer is, how well it keeps to
the style of PEP 257, and how much of the author's summary it contains, relative to one another.
They rank these as (short, content, style), (content, style, short), (style, short, content), so
that a majority prefers short to content, content to style and style to short. Trained are Nash-MD
at five mixture weights, Nash-EMA, and RLHF on the mean of the raters' utilities, with three seeds
each. All answer the docstrings of held-out packages. Prints win rates against RLHF with 95 %
intervals by resampling prompts and seeds, and whether the win rate as a function of the mixture
weight has a single interior peak, as Munos et al. report. Existing results in FOLDER are reused.
`runs watch FOLDER` shows the runs while they train.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
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
from experiments.docstrings import LENGTH, place, write_examples
from experiments.jobs import CLI, await_all, device_option, markdown, settings, workers
from nlhf.config import LanguageConfig, get_judge
from nlhf.language.corpora import docstrings, reference
from nlhf.language.decoding import Sampling
from nlhf.language.loading import load_policy
from nlhf.language.prompts import Prompt
from nlhf.language.saving import save_policy
from nlhf.language.similarity import rouge_1, words
from nlhf.language.tournament import answers_of
from nlhf.training import LanguageRecord, build_language, train_language

WEIGHTS = (0.0, 0.125, 0.25, 0.5, 1.0)
RLHF, EMA, WARM = "rlhf", "nash-ema", "warm start"
RATERS = "experiments.cyclic_docstrings:raters"
TASTES = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 0.0]], dtype=torch.float64)
"""Each rater's utility of short, style and content."""
SHARP, SURE = 6.0, 4.0
"""Sharpness of the features, and certainty of the raters."""
RESAMPLES = 2000


def features(prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
    """How short, well styled and full of content each answer is, [B, 3], each row summing to 1.

    Softmax of SHARP times: 1 - words / LENGTH; the fraction of four rules of PEP 257 that it keeps;
    the recall of the author's words.
    """
    rows = []
    for y, human in zip(answers, map(reference, prompts), strict=True):
        answer_words = words(y)
        short = max(0.0, 1 - len(answer_words) / LENGTH) if answer_words else 0.0
        rows.append((short, style(y), rouge_1(answer_words, words(human))[1]))
    return torch.softmax(SHARP * torch.tensor(rows, dtype=torch.float64), -1)


def style(answer: str) -> float:
    """The fraction of style rules that an answer keeps.

    It begins with a capital letter, its first word is not in the third person, it ends with a full
    stop, and it is one sentence without markup."""
    first = (answer.split() or [""])[0]
    rules = (
        answer[:1].isupper(),
        bool(first) and not re.fullmatch(r"\w+[^s]s", first),
        answer.endswith("."),
        bool(answer) and not re.search(r"[`*:#\n]|\.\s", answer),
    )
    return sum(rules) / len(rules)


def utilities(prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
    """Each rater's utility of each answer, [B, 3]."""
    return features(prompts, answers) @ TASTES.T


def raters(prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
    """The mean over raters of sigmoid(SURE (u(a) - u(b))), [B]."""
    return torch.sigmoid(SURE * (utilities(prompts, a) - utilities(prompts, b))).mean(-1)


def reward(prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
    """The mean of the raters' utilities, weighted by their uncertainty: the reward of RLHF, [B].

    The plain mean is the same for all answers by construction. Its Bradley-Terry fit against the
    three pure kinds of answers is not.
    """
    mine = utilities(prompts, answers)
    pure = torch.softmax(SHARP * torch.eye(3, dtype=torch.float64), -1) @ TASTES.T
    wins = torch.sigmoid(SURE * (mine[:, None] - pure[None])).mean(-1)
    return torch.logit(wins.mean(-1))


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
        "tau": 0.02,
        "lora": {"rank": 8, "targets": ("q_proj", "v_proj")},
        "generation": {"max_new_tokens": LENGTH},
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 5, "schedule": "cosine"},
        "seed": seed,
    }
    three = {"opponents": 3}
    found = {f"nash-md {w:g}": {**common, **three, "mixture": w} for w in WEIGHTS}
    found[EMA] = {**common, **three, "algorithm": "nash-ema"}
    scalar = {"algorithm": "rlhf", "reward": "experiments.cyclic_docstrings:reward"}
    # the slope of P is at most a quarter of the reward's: four times the tau is the same trade-off
    found[RLHF] = {**common, **scalar, "tau": 0.08}
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


def answer(spec: Path, prompts: Sequence[str], device: str) -> list[str]:
    """Sample a policy's answers, with the same random numbers for all policies."""
    path = spec.with_name(spec.name + ".answers.json")
    if not path.is_file():
        g = torch.Generator().manual_seed(0)
        given = (str(spec), prompts, Sampling(LENGTH), g)
        (found,) = answers_of(*given, batch_size=16, device=device)
        replace_file(path, json.dumps(found).encode())
    return json.loads(path.read_text("utf-8"))


def train_and_answer(
    folder: Path, name: str, steps: int, seed: int, prompts: Sequence[str], device: str
) -> list[str]:
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


def compare(
    texts: dict[str, list[list[str]]], prompts: Sequence[str], other: str
) -> dict[str, tuple[float, np.ndarray]]:
    """P of each policy against another one, over all pairs of seeds, with its resamples."""
    judge = get_judge(RATERS)
    found = {}
    for name, runs in texts.items():
        wins = [
            [judge(list(prompts), mine, theirs).numpy() for theirs in texts[other]] for mine in runs
        ]
        # all policies are resampled in the same way, so that their differences are meaningful
        found[name] = against(np.array(wins), np.random.default_rng(0))
    return found


def shape(found: dict[str, tuple[float, np.ndarray]]) -> str:
    """Say whether the win rate has an interior peak over mixture weights, and how sure that is."""
    names = [f"nash-md {w:g}" for w in WEIGHTS]
    means = np.array([found[name][0] for name in names])
    drawn = np.stack([found[name][1] for name in names])
    best = drawn.argmax(0)
    inside = float(((best > 0) & (best < len(names) - 1)).mean())
    top = int(means.argmax())
    rises = np.diff(means) > 0
    single = not any(b and not a for a, b in itertools.pairwise(rises))
    ends = max(drawn[0].mean(), drawn[-1].mean())
    low, high = np.percentile(drawn[top] - np.maximum(drawn[0], drawn[-1]), [2.5, 97.5])
    kind = "one interior peak" if single and 0 < top < len(names) - 1 else "no single interior peak"
    return (
        f"{kind}: the largest rate is at weight {WEIGHTS[top]:g}; it is inside in {inside:.0%} of "
        f"resamples, and above the better end ({ends:.3f}) by [{low:.3f}, {high:.3f}]"
    )


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/cyclic-docstrings"))
@click.option("--model", default="smollm2")
@click.option("--processes", type=int, default=2)
@click.option("--steps", type=int, default=80)
@click.option("--seeds", type=int, default=3)
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
    examples: int,
    held_out: int,
    device: str,
    figure: Path,
) -> None:
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    items = sorted(docstrings(), key=lambda item: len(item.prompt))
    learn = [item for item in items if not item.held_out]
    tried = [item.prompt for item in items if item.held_out][:held_out]
    count = 2 * steps  # prompts of a run, each used once
    write_examples(out / "prompts.jsonl", learn[:count])
    write_examples(out / "examples.jsonl", learn[count : count + examples])
    _warm(out, model, processes, device)
    texts = _texts(out, steps, seeds, tried, processes, device)
    found = {other: compare(texts, tried, other) for other in (WARM, RLHF)}
    click.echo(_table(texts, found, tried))
    click.echo("\n" + shape(found[RLHF]))
    _draw(found[RLHF], figure)
    click.echo(f"figure: {figure}\nminutes: {(time.perf_counter() - began) / 60:.1f}")


def _texts(
    out: Path, steps: int, seeds: int, tried: Sequence[str], processes: int, device: str
) -> dict[str, list[list[str]]]:
    """The answers of each seed of each policy; trains those that are not there."""
    names = list(configs(out, steps, 0))
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


def _table(
    texts: dict[str, list[list[str]]],
    found: dict[str, dict[str, tuple[float, np.ndarray]]],
    tried: Sequence[str],
) -> str:
    rows = []
    for name, runs in texts.items():
        cells = [name]
        for other in (WARM, RLHF):
            mean, drawn = found[other][name]
            low, high = np.percentile(drawn, [2.5, 97.5])
            cells.append("" if name == other else f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        shares = features(list(tried) * len(runs), list(itertools.chain(*runs))).mean(0).tolist()
        rows.append(cells + [f"{value:.2f}" for value in shares])
    header = ["policy", "P against the warm start", "P against rlhf", "short", "style", "content"]
    return markdown(header, rows)


def _draw(found: dict[str, tuple[float, np.ndarray]], figure: Path) -> None:
    drawn = [found[f"nash-md {w:g}"] for w in WEIGHTS]
    low, high = np.percentile([each for _, each in drawn], [2.5, 97.5], axis=1)
    curve = Line("nash-md", WEIGHTS, [mean for mean, _ in drawn], low, high)
    panel = Panel(
        "Nash-MD against RLHF, held-out docstrings",
        "weight of the reference in the mixture",
        [curve],
        y_label="P(policy preferred to RLHF)",
        references=[(0.5, "a draw"), (found[EMA][0], EMA)],
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
