"""Speed of the tabular games, as ratios within one process and one thread.

    PYTHONPATH=. python benchmarks/nash.py [--json] [--device cuda]

- `oracle alone`: time of OpenSpiel's magnetic mirror descent to a gap of 1e-10 relative to the
  oracle, one game of K = 10 and tau = 0.1 (the oracle goes on to 1e-20);
- `oracle batched`: the same relative to the oracle's time per game in a batch of 2,000;
- `one call`: 1,000 games of K = 50 to an exploitability of 1e-12, one by one relative to one batch;
- `step`: one Nash-MD step at B = 256, K = 256, float32, relative to the bare batched product.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from nlhf.algorithms import NashMD, Problem
from nlhf.games import random_games
from nlhf.oracle import solve_equilibrium
from nlhf.regularised_game import uniform_reference


def seconds(work: Callable[[], object], repeat: int) -> float:
    """Median time of one call."""
    work()
    times = []
    for _ in range(repeat):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def open_spiels_time(P: torch.Tensor, tau: float, gap: float) -> float:
    """Seconds that OpenSpiel's magnetic mirror descent takes to the gap."""
    import pyspiel
    from open_spiel.python.algorithms import mmd_dilated

    payoffs = (P - 0.5).numpy()
    game = pyspiel.convert_to_turn_based(pyspiel.create_matrix_game(payoffs, -payoffs))
    mmd = mmd_dilated.MMDDilatedEnt(game, tau)
    began = time.perf_counter()
    for _ in range(100_000):
        mmd.update_sequences()
        if mmd.get_gap() <= gap:
            break
    return time.perf_counter() - began


def oracle(games: int) -> dict[str, float]:
    g = torch.Generator().manual_seed(0)
    P = random_games(games, 10, g)
    mu = uniform_reference(P)
    theirs = statistics.median(open_spiels_time(p, 0.1, 1e-10) for p in P[:5])
    alone = statistics.median(
        seconds(lambda p=p: solve_equilibrium(p, mu[0], 0.1), 5) for p in P[:5]
    )
    batched = seconds(lambda: solve_equilibrium(P, mu, 0.1), 5) / games
    return {
        "oracle alone": round(theirs / alone),
        "oracle batched": round(theirs / batched),
        "oracle alone, ms": round(1e3 * alone, 3),
        "oracle batched, us a game": round(1e6 * batched, 2),
    }


def one_call(games: int) -> dict[str, float]:
    P = random_games(games, 50, torch.Generator().manual_seed(1))
    mu = uniform_reference(P)

    def one_by_one() -> None:
        for p, m in zip(P[:100], mu[:100], strict=True):
            solve_equilibrium(p, m, 0.1)

    together = seconds(lambda: solve_equilibrium(P, mu, 0.1), 3)
    apart = seconds(one_by_one, 3) * games / 100
    return {"one call": round(apart / together, 1)}


def step(device: str) -> dict[str, float]:
    g = torch.Generator().manual_seed(2)
    P = random_games(256, 256, g).float().to(device)
    problem = Problem(P, uniform_reference(P), torch.full((256,), 0.1, device=device))
    algorithm = NashMD()
    state = algorithm.step(problem, algorithm.init(problem))
    pi = state.log_pi.exp()
    ratios = [
        seconds(lambda: algorithm.step(problem, state), 20) / seconds(lambda: P @ pi[..., None], 20)
        for _ in range(9)
    ]
    bare = seconds(lambda: P @ pi[..., None], 20)
    return {
        "step": round(statistics.median(ratios), 2),
        "bare product, GB/s": round(P.numel() * 4 / bare / 1e9, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = oracle(2000) | one_call(1000) | step(arguments.device)
    if arguments.json:
        print(json.dumps(results))
        return
    for name, value in results.items():
        print(f"{name:28} {value}")


if __name__ == "__main__":
    main()
