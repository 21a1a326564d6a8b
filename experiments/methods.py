"""Compare all methods and the public trainer on the same languages, by exact exploitability.

    python -m experiments.methods [--out FOLDER] [--processes N] [--figure FILE.png]
    python -m experiments.methods --sizes 3 --seeds 1 --answers 640 --untuned --methods nash-md,sppo

The languages can be enumerated: answers of 1 to 4 of three tokens (3, 9, 27 and 81 answers), a
random tiny model as reference, tau = 0.1. The cyclic preference places the answers on a circle,
where each beats the nearer half, and adds some transitive strength. The transitive preference is a
Bradley-Terry model. Every run samples the same number of answers, including those of opponents.
Each method runs with its paper's constants and tuned: with the best of several learning rates and
settings on the language of nine answers, with a separate seed. Prints the tables of
docs/methods.md. Existing results in FOLDER are reused. Exploitability refers to the regularised
game, `plain` to the game without tau: max_y P(y > pi) - 1/2.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from bridge.distributed import Group
from bridge.optim import Optimizer
from bridge.progress import progress
from experiments.jobs import Refusal, markdown
from experiments.method_arms import ARMS, RATE, TAU
from experiments.method_tables import KINDS, Task, draw, tables, target
from experiments.published_trainer import PublishedNashMD, bias
from nlhf.language.decoding import Sampling
from nlhf.language.enumeration import (
    ExactGame,
    Language,
    TableReward,
    enumerate_language,
    log_probabilities,
)
from nlhf.language.judging import TableJudge
from nlhf.language.loading import tiny_model
from nlhf.language.objectives import Objective, constant, get_objective
from nlhf.language.policy import Policy
from nlhf.language.reference import Reference
from nlhf.language.trainer import Batching, Trainer
from nlhf.oracle import solve_equilibrium
from nlhf.regularised_game import nash_conv
from nlhf.schedules import schedule

WORDS = ("a", "b", "c")
PROMPTS = 8
"""Prompts per step; all are the same prompt."""
POINTS = 8
TUNED_ON, TUNING_SEED = 9, 100


def preference(kind: str, count: int, seed: int) -> Tensor:
    """P(i > j) of a language, [K, K]; the same for all policies of a seed."""
    g = torch.Generator().manual_seed(1000 + seed)
    angle = 2 * math.pi * torch.randperm(count, generator=g).double() / count
    strength = torch.randn(count, generator=g, dtype=torch.float64)
    if kind == "transitive":
        return torch.sigmoid(1.5 * (strength[:, None] - strength[None]))
    gap = 3 * torch.sin(angle[:, None] - angle[None])
    return torch.sigmoid(gap + 0.3 * (strength[:, None] - strength[None]))


@dataclasses.dataclass(frozen=True)
class World:
    """A language, its game and a policy that starts at the reference."""

    policy: Policy
    language: Language
    game: ExactGame

    def measures(self) -> tuple[float, float, float]:
        """Exploitability, KL(pi || pi*), and plain exploitability."""
        with torch.no_grad():
            log_pi = log_probabilities(self.policy, self.language).double()
        log_pi = torch.log_softmax(log_pi, -1)
        plain = 0.5 * float(nash_conv(self.game.P, log_pi))
        return self.game.exploitability(log_pi), self.game.kl_to_equilibrium(log_pi), plain


def world(kind: str, count: int, seed: int) -> World:
    """Make a language of 3, 9, 27, ... answers."""
    length = round(math.log(count, len(WORDS)))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, tokenizer = tiny_model(WORDS, layers=1)
    policy = Policy(model, copy.deepcopy(model), tokenizer, (), 0)
    language = enumerate_language(policy, "a", length)
    P = preference(kind, len(language.texts), seed)
    with torch.no_grad():
        log_mu = torch.log_softmax(log_probabilities(policy, language).double(), -1)
    return World(policy, language, ExactGame(P, log_mu, TAU, solve_equilibrium(P, log_mu, TAU)))


def objective_of(name: str, settings: Mapping[str, Any], steps: int) -> tuple[Objective, Reference]:
    """Make an arm's objective; fractions of a run become steps."""
    arm, given = ARMS[name], dict(settings)
    every = round(given.pop("reference_every", 0) * steps)
    if "anchor_every" in given:
        given["anchor_every"] = max(1, round(given["anchor_every"] * steps))
    kind: Any = PublishedNashMD if arm.objective == "published" else get_objective(arm.objective)
    fields = {each.name for each in dataclasses.fields(kind)}
    mixture = given.pop("mixture", None)
    if "mixture" in fields:
        falling = mixture == "falling"
        given["mixture"] = schedule("linear", 0.25, 0.0, steps) if falling else constant(mixture)
    given["samples"] = arm.answers[0]
    if "opponents" in fields:
        given["opponents"] = arm.answers[1]
    if "kl" in fields and arm.objective != "published":
        given["kl"] = "full"
    return kind(tau=constant(TAU), **given), Reference(every=every)


def sampled_by(name: str) -> int:
    """Number of answers per prompt and step, including those of opponents."""
    samples, opponents = ARMS[name].answers
    times = {"extragradient": 2, "mnpo": ARMS[name].paper.get("players", 2) - 1}
    return (samples + (opponents or 0)) * times.get(ARMS[name].objective, 1)


def run(task: Task) -> Task:
    """Run a task: its measures after each number of answers in POINTS."""
    torch.set_num_threads(1)
    began, name = time.process_time(), task["method"]
    settings = dict(task["settings"])
    rate = settings.pop("learning_rate")
    place = world(task["kind"], task["size"], task["seed"])
    a_step = PROMPTS * sampled_by(name)
    steps = max(POINTS, task["answers"] // a_step)
    objective, reference = objective_of(name, settings, steps)
    policy, texts = place.policy, place.language.texts
    trainer = Trainer(
        policy=policy,
        prompts=["a"] * PROMPTS,
        judge=TableJudge(texts, place.game.P),
        reward=TableReward(texts, place.game.P) if objective.needs_reward else None,
        objective=objective,
        sampling=Sampling(place.language.tokens.shape[1]),
        batching=Batching(PROMPTS),
        optimizer=Optimizer(
            dict(policy.trainable()),
            method="adam",
            learning_rate=rate,
            schedule="cosine",
            total_steps=steps,
            clip_norm=1.0,
        ),
        order=torch.Generator().manual_seed(task["seed"]),
        draws=torch.Generator().manual_seed(task["seed"] + 1),
        group=Group(),
        reference=reference,
    )
    course = [(0, *place.measures())]
    marks = {round(steps * i / POINTS) for i in range(1, POINTS + 1)}
    for step in range(1, steps + 1):
        trainer.step()
        if step in marks:
            course.append((step * a_step, *place.measures()))
    return {**task, "course": course, "seconds": time.process_time() - began}


def _key(task: Task) -> str:
    return json.dumps(task, sort_keys=True)


def run_all(tasks: Sequence[Task], path: Path, processes: int) -> list[Task]:
    """Run the tasks that are not in the file, in parallel; results in the tasks' order."""
    found: dict[str, Task] = {}
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            done = json.loads(line)
            inner = {k: v for k, v in done.items() if k not in ("course", "seconds")}
            found[_key(inner)] = done
    missing = [task for task in tasks if _key(task) not in found]
    with path.open("a", encoding="utf-8") as file, progress(len(missing), "runs", False) as bar:
        for done in _results(missing, processes):
            inner = {k: v for k, v in done.items() if k not in ("course", "seconds")}
            found[_key(inner)] = done
            file.write(json.dumps(done) + "\n")
            file.flush()
            bar.advance(1)
    return [found[_key(task)] for task in tasks]


def _results(tasks: Sequence[Task], processes: int) -> Iterator[Task]:
    if processes == 1:
        yield from map(run, tasks)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn) as pool:
        for future in as_completed([pool.submit(run, task) for task in tasks]):
            yield future.result()


def tuned(methods: Sequence[str], answers: int, folder: Path, processes: int) -> dict[str, Any]:
    """Find the best settings of each method over both kinds of languages."""
    tasks = [
        _task(name, "tuning", settings, kind, TUNED_ON, TUNING_SEED, answers)
        for name in methods
        for settings in ARMS[name].grid()
        for kind in KINDS
    ]
    done = run_all(tasks, folder / "tuning.jsonl", processes)
    best: dict[str, Any] = {}
    for name in methods:
        scores: dict[str, float] = {}
        for each in done:
            if each["method"] == name:
                key = json.dumps(each["settings"], sort_keys=True)
                end = max(each["course"][-1][target(name)], 1e-12)
                scores[key] = scores.get(key, 0.0) + math.log(end)
        best[name] = json.loads(min(scores, key=lambda key: scores[key]))
    return best


def _task(
    name: str, how: str, settings: Any, kind: str, size: int, seed: int, answers: int
) -> Task:
    given = {"method": name, "how": how, "settings": settings, "kind": kind}
    return given | {"size": size, "seed": seed, "answers": answers}


def bias_table(sizes: Sequence[int], seeds: int) -> str:
    """The public trainer's gradient: the largest error of an entry next to the largest entry."""
    rows = []
    for size in sizes:
        for lora in (False, True):
            errors, entries = [], []
            for seed in range(seeds):
                place = world("cyclic", size, seed)
                g = torch.Generator().manual_seed(seed)
                with torch.no_grad():
                    for p in place.policy.trainable().values():
                        p += 0.2 * torch.randn(p.shape, generator=g)
                given = (place.policy, place.language, place.game.P, TAU, 0.5, lora)
                error, entry = bias(*given)
                errors.append(error)
                entries.append(entry)
            middle = (sorted(each)[seeds // 2] for each in (errors, entries))
            kind = "LoRA (its mixture is self-play)" if lora else "full"
            rows.append([str(size), kind, *(f"{value:.3f}" for value in middle)])
    return markdown(["answers", "TRL 1.13", "largest error", "largest entry"], rows)


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/methods"))
@click.option("--methods", default=",".join(ARMS), help="Names, with commas between.")
@click.option("--sizes", default="3,9,27,81")
@click.option("--seeds", type=int, default=3)
@click.option("--answers", type=int, default=4800, help="Sampled by each run.")
@click.option("--untuned", is_flag=True, help="Published settings only.")
@click.option("--processes", type=int, default=2)
@click.option("--figure", type=click.Path(path_type=Path), default=Path("methods.png"))
def main(
    out: Path,
    methods: str,
    sizes: str,
    seeds: int,
    answers: int,
    untuned: bool,
    processes: int,
    figure: Path,
) -> None:
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    names = [name.strip() for name in methods.split(",")]
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise Refusal(f"--methods {unknown[0]} is unknown; use {', '.join(ARMS)}")
    counts = [int(size) for size in sizes.split(",")]
    ways: dict[str, dict[str, Any]] = {
        "published": {n: {**ARMS[n].paper, "learning_rate": RATE} for n in names}
    }
    if not untuned:
        ways["tuned"] = tuned(names, answers, out, processes)
    tasks = [
        _task(name, how, settings[name], kind, size, seed, answers)
        for seed in range(seeds)
        for how, settings in ways.items()
        for size in counts
        for kind in KINDS
        for name in names
    ]
    done = run_all(tasks, out / "runs.jsonl", processes)
    for text in tables(done, counts, names):
        click.echo(f"\n{text}")
    for name, best in ways.get("tuned", {}).items():
        click.echo(f"tuned {name}: {json.dumps(best)}")
    click.echo("\n" + bias_table(counts, seeds))
    draw(done, counts, names, figure)
    spent = sum(each["seconds"] for each in done) / 60
    took = (time.perf_counter() - began) / 60
    click.echo(f"\nfigure: {figure}\n{len(done)} runs of {spent:.1f} CPU minutes; {took:.1f} here")


if __name__ == "__main__":
    main()
