"""Speed on a GPU, after a check of agreement with the CPU, in at most eight minutes.

    PYTHONPATH=. python benchmarks/gpu.py [--only SECTION ...] [--dry-run] [--json]

Sections, in this order; each line is one check:

- `agreement`: equality with the CPU in float64: updates, steps and states of phases, policies;
- `update`: one update relative to backpropagation of the same layers as a CUDA graph; by
  kernels, and by recorded loops, also compiled;
- `run`: the default MNIST run of ten epochs: seconds and test error;
- `ensemble`: 32 seeds of the default run together relative to one alone, two epochs;
- `games`: Nash-MD's step relative to the bare batched product, and 1,000 steps to 1,000 products;
- `oracle`: equilibria of many games, in seconds;
- `decoding`: policy and mixture of a language model relative to transformers' `generate` with the
  same static cache; needs the extra lm.

Each ratio is printed with its upper limit. `share` is the minimum time that the device's own copies
or products would take, relative to the measured time. Without a GPU: one line, and exit code 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import gpu_decoding
from benchmarks.gpu_oracle import equilibria
from bioplaus.config import EqpropConfig
from bioplaus.costs import get_cost
from bioplaus.estimators import get_estimator
from bioplaus.fields import LeakyField
from bioplaus.phases import Settling, free_phase
from bioplaus.training import Run, build, train
from bioplaus.training.loop import Listeners, course
from bioplaus.training.run import read
from bioplaus.training.together import Member, train_together
from bioplaus.training.updates import chosen
from bridge.config import load_config
from nlhf import solve_equilibrium
from nlhf.algorithms import NashMD, Problem
from nlhf.device.programs import choose
from nlhf.games import random_games
from nlhf.oracle import solve_and_tell
from nlhf.regularised_game import uniform_reference

SECONDS = 480.0
"""Seconds for all sections; what would start later is skipped, with a message."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        section: its section.
        name: what it measures.
        work: gives the results for a device; `ratio` or `off` is compared with `most`.
        most: the upper limit; None sets none.
    """

    section: str
    name: str
    work: Callable[[str], Result]
    most: float | None = None


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str, repeat: int = 5, inside: int = 20) -> float:
    """Median time of one call, over `repeat` runs of `inside` calls."""
    work()
    times = []
    for _ in range(repeat):
        wait(device)
        began = time.perf_counter()
        for _ in range(inside):
            work()
        wait(device)
        times.append((time.perf_counter() - began) / inside)
    return statistics.median(times)


def graphed(work: Callable[[], object], device: str) -> Callable[[], object]:
    """The work as a CUDA graph; unchanged on a CPU."""
    if device != "cuda":
        return work
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def backpropagation(sizes: list[int], rows: int, device: str) -> Callable[[], None]:
    """One training step of a multilayer perceptron in plain torch."""
    layers: list[torch.nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1]).to(device)
    x = torch.rand(rows, sizes[0], device=device)
    labels = torch.randint(sizes[-1], (rows,), device=device)
    weights = list(model.parameters())

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        slopes = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.sub_(slope, alpha=1e-3)

    return step


def make_run(sizes: list[int], sets: tuple[str, ...], rows: int, device: str) -> Run:
    hidden = f"network.hidden={sizes[1:-1]}"
    small = (f"data.train_size={max(rows, 1000)}", f"batch_size={rows}", "data.test_size=100")
    rate = "optimizer.learning_rate=1e-3"
    return build(load_config(EqpropConfig, sets=[hidden, *small, rate, *sets]), device)


def update(sizes: list[int], rows: int, *sets: str) -> Callable[[str], Result]:
    def work(device: str) -> Result:
        run = make_run(sizes, sets, rows, device)
        notes: list[str] = []
        updates, batch = chosen(run, notes.append), torch.arange(rows)
        for _ in range(3):  # the optimizer's first step, the recording, the first replay
            updates.step(batch, now=True)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        mine = seconds(lambda: updates.step(batch, now=False), device)
        values = updates.step(batch, now=True)[-1].values
        theirs = seconds(graphed(backpropagation(sizes, rows, device), device), device)
        memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0
        return {
            "ratio": mine / theirs,
            "ms": 1e3 * mine,
            "backpropagation ms": 1e3 * theirs,
            "steps": [values["free_steps"], values["nudged_steps"]],
            "MiB": memory,
            "how": "; ".join(notes) or "step by step",
        }

    return work


def whole_run(epochs: int, *sets: str) -> Callable[[str], Result]:
    def work(device: str) -> Result:
        run = build(load_config(EqpropConfig, sets=[f"epochs={epochs}", *sets]), device)
        rows: list[Any] = []
        began = time.perf_counter()
        train(run, on_step=lambda row: None, on_epoch=rows.append)
        spent = time.perf_counter() - began
        return {"off": spent, "test error %": rows[-1].test_error, "s": spent}

    return work


def ensemble(members: int, epochs: int, *sets: str) -> Callable[[str], Result]:
    """Seconds of so many seeds together, relative to one."""

    def work(device: str) -> Result:
        every = [[f"epochs={epochs}", f"seed={k}", *sets] for k in range(members)]
        configs = [load_config(EqpropConfig, sets=each) for each in every]
        data, notes = read(configs[0], device), []

        def spent(some: list[EqpropConfig]) -> tuple[float, list[Any]]:
            rows: list[Any] = []
            to = Listeners(on_step=lambda row: None, on_epoch=rows.append, note=notes.append)
            runs = [build(each, device, dataset=data) for each in some]
            began = time.perf_counter()
            for _ in train_together([Member(run, course(run, to)) for run in runs]):
                pass
            return time.perf_counter() - began, rows[-len(some) :]

        (one, alone), (many, rows) = spent(configs[:1]), spent(configs)
        off = max(abs(row.test_error - alone[0].test_error) for row in rows[:1])
        return {"ratio": many / one, "s": many, "one s": one, "first off by %": off,
                "test error %": statistics.mean(row.test_error for row in rows),
                "how": "; ".join(dict.fromkeys(notes))}  # fmt: skip

    return work


def game(games: int, actions: int, device: str) -> tuple[Problem, NashMD]:
    P = random_games(games, actions, torch.Generator().manual_seed(0)).float().to(device)
    tau = torch.full((games,), 0.1, device=device)
    return Problem(P, uniform_reference(P), tau), NashMD()


def nash(games: int, actions: int, steps: int) -> Callable[[str], Result]:
    def work(device: str) -> Result:
        problem, method = game(games, actions, device)
        program, state = choose(method, problem), method.init(problem)
        policy = state.log_pi.exp()[..., None]
        bare = seconds(graphed(lambda: problem.P @ policy, device), device)
        mine = seconds(lambda: program.advance(problem, state, steps), device, inside=3) / steps
        read = problem.P.numel() * 4 / mine / copies(device)
        return {"ratio": mine / bare, "us": 1e6 * mine, "bare us": 1e6 * bare,
                "share": read, "how": program.name}  # fmt: skip

    return work


def copies(device: str) -> float:
    """Bytes per second that the device reads and writes in a copy."""
    a = torch.empty(64 << 20 if device == "cuda" else 1 << 20, device=device)
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / seconds(lambda: b.copy_(a), device)


def oracle(games: int, actions: int) -> Callable[[str], Result]:
    def work(device: str) -> Result:
        P = random_games(games, actions, torch.Generator().manual_seed(0)).to(device)
        mu = uniform_reference(P)
        spent = seconds(lambda: solve_equilibrium(P, mu, 0.1), device, 3, 1)
        return {"ms": 1e3 * spent, "how": solve_and_tell(P, mu, 0.1)[1]}

    return work


def agreement(sizes: list[int], name: str, dtype: torch.dtype) -> Callable[[str], Result]:
    """The largest relative difference of an estimator's update from the CPU's in float64."""

    def work(device: str) -> Result:
        g = torch.Generator().manual_seed(0)
        net = LeakyField(sizes, "hard-sigmoid", coordinates="clipped", generator=g)
        x, y = torch.rand(40, sizes[0], generator=g), torch.eye(sizes[-1])[torch.arange(40) % 10]
        settling = Settling(tolerance=0, free_steps=30, nudged_steps=10, verify=False)
        rule = dataclasses.replace(get_estimator(name)(), settling=settling)
        cost = get_cost("squared-error")
        exact = rule(net.precise(), x.double(), y.double(), cost)
        there = net.with_parameters({k: p.to(device, dtype) for k, p in net.parameters.items()})
        found = rule(there, x.to(device, dtype), y.to(device, dtype), cost)
        off = max(
            float((found.updates[k].cpu().double() - u).norm() / u.norm().clamp_min(1e-30))
            for k, u in exact.updates.items()
        )
        states = float((found.free.s.cpu().double() - exact.free.s).abs().max())
        steps = int((found.free.n_steps.cpu() != exact.free.n_steps).sum())
        return {"off": max(off, states), "updates": off, "states": states, "other steps": steps}

    return work


def ends(sizes: list[int], dtype: torch.dtype) -> Callable[[str], Result]:
    """Number of rows that settle to a tolerance in another number of steps than on the CPU."""

    def work(device: str) -> Result:
        g = torch.Generator().manual_seed(0)
        net = LeakyField(sizes, "hard-sigmoid", coordinates="clipped", generator=g)
        x = torch.rand(200, sizes[0], generator=g)
        settling = Settling(tolerance=1e-3, verify=False)
        here = free_phase(net.precise(), x.double(), settling=settling)
        there = net.with_parameters({k: p.to(device, dtype) for k, p in net.parameters.items()})
        found = free_phase(there, x.to(device, dtype), settling=settling)
        return {"off": float((found.n_steps.cpu() != here.n_steps).double().mean())}

    return work


def policies(actions: int, dtype: torch.dtype) -> Callable[[str], Result]:
    """The largest difference of log-probabilities after 50 steps from the CPU's in float64."""

    def work(device: str) -> Result:
        P = random_games(20, actions, torch.Generator().manual_seed(0))
        log_mu, tau, method = uniform_reference(P), torch.full((20,), 0.1).double(), NashMD()
        found = []
        for where, kind in (("cpu", torch.float64), (device, dtype)):
            given = Problem(*(t.to(where, kind) for t in (P, log_mu, tau)))
            program = choose(method, given)
            end = program.advance(given, method.init(given), 50)[1]
            again = program.advance(given, method.init(given), 50)[1]
            found.append((end.log_pi.cpu().double(), torch.equal(end.log_pi, again.log_pi)))
        off = float((found[1][0] - found[0][0]).abs().max())
        return {"off": off, "same again": found[1][1]}

    return work


SMALL, DEEP, WIDE = [784, 512, 10], [784, 512, 512, 512, 10], [784, 2048, 2048, 2048, 10]
ASYM = ("estimator.name=asym-ep", "network.feedback_gain=0.3", "phases.tolerance=1e-3")
EXACTLY = ("phases.tolerance=0", "phases.free_steps=30", "phases.nudged_steps=10")
LOOPS = ("phases.check_every=2", "phases.free_steps=31")
SINGLE, DOUBLE = torch.float32, torch.float64


def checks() -> Iterator[Check]:
    """All checks, in order."""
    for dtype, most in ((DOUBLE, 1e-9), (SINGLE, 1e-3)):
        word = str(dtype).removeprefix("torch.")
        for rule in ("vector-field", "asym-ep"):
            for sizes in (SMALL, DEEP):
                name = f"{rule} {'-'.join(map(str, sizes))} {word}"
                yield Check("agreement", name, agreement(sizes, rule, dtype), most)
        few = 0.0 if dtype == DOUBLE else 0.05
        yield Check("agreement", f"rows with other steps {word}", ends(DEEP, dtype), few)
        for actions in (10, 100, 150, 224, 256):
            off = 1e-10 if dtype == DOUBLE else 1e-2
            yield Check("agreement", f"nash-md K={actions} {word}", policies(actions, dtype), off)
    for actions in (10, 50):
        yield Check("agreement", f"oracle K={actions}", equilibria(actions), 1e-11)
    yield Check("update", "784-512-10, batch 50", update(SMALL, 50), 2.0)
    for more in ((), ("phases.compile=true",)):  # the kernels check after each sweep
        name = " ".join(("784-512-10, recorded loops", *more))
        yield Check("update", name, update(SMALL, 50, *LOOPS, *more))
    yield Check("update", "784-512-10, batch 50, 30 + 10 steps", update(SMALL, 50, *EXACTLY))
    for rows, most in ((50, 5.0), (500, None), (4000, 6.0)):
        name = f"784-3x512-10 asym-ep, batch {rows}"
        yield Check("update", name, update(DEEP, rows, *ASYM), most)
    wide = update(WIDE, 4000, *ASYM)
    yield Check("update", "784-3x2048-10 asym-ep, batch 4000", wide, 6.0)
    yield Check("run", "the default run, ten epochs, s", whole_run(10), 6.0)
    yield Check("ensemble", "32 seeds of the default run over one", ensemble(32, 2), 3.0)
    yield Check("games", "256 games K=256, a step", nash(256, 256, 1), 1.3)
    yield Check("games", "10,000 games K=10, a step", nash(10_000, 10, 1))
    for actions in (50, 128, 224):
        name = f"256 games K={actions}, a step of 1,000"
        yield Check("games", name, nash(256, actions, 1000), 0.2)
    yield Check("oracle", "20,000 games K=10", oracle(20_000, 10))
    yield Check("oracle", "1,000 games K=50", oracle(1000, 50))
    for name, work, most in gpu_decoding.checks():
        yield Check("decoding", name, work, most)


def line_of(check: Check, found: Result) -> str:
    """Format a line of the table."""
    cells = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()]
    goal = "" if check.most is None else f"  (at most {check.most:g})"
    return f"{check.section:10} {check.name:42} {', '.join(cells)}{goal}"


def measured(check: Check, device: str) -> Result:
    """Run a check, and tell whether it is within its limit; a failure becomes one line."""
    try:
        found = check.work(device)
    except Exception as error:  # the other checks are still useful
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    if check.most is not None:
        value = found.get("ratio", found.get("off"))
        found["reached"] = value is not None and value <= check.most
    return found


def main() -> int:
    every = list(checks())
    sections = list(dict.fromkeys(check.section for check in every))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sections, metavar="SECTION", default=sections)
    parser.add_argument("--dry-run", action="store_true", help="list the checks")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    wanted = [check for check in every if check.section in arguments.only]
    if arguments.dry_run:
        listed = [{"section": c.section, "name": c.name, "at most": c.most} for c in wanted]
        lines = [line_of(check, {}).rstrip() for check in wanted]
        print(json.dumps(listed) if arguments.json else "\n".join(lines))
        return 0
    if not torch.cuda.is_available():
        print("error: no usable GPU here; --dry-run lists the checks", file=sys.stderr)
        return 2
    began, results = time.monotonic(), []
    device = torch.cuda.get_device_name()
    if not arguments.json:
        print(f"{device}, torch {torch.__version__}")
    for check in wanted:
        late = time.monotonic() - began > SECONDS - 60
        found = {"left out": "no time"} if late else measured(check, "cuda")
        results.append(
            {"section": check.section, "name": check.name, "at most": check.most} | found
        )
        if not arguments.json:
            print(line_of(check, found), flush=True)
    if arguments.json:
        print(json.dumps({"device": device, "torch": torch.__version__, "checks": results}))
    return 0 if all(r.get("reached", True) and "failed" not in r for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
