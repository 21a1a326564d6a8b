"""Are the verdicts of `rank` calibrated? Simulated votes with known truth.

    PYTHONPATH=. python experiments/verdicts.py [--sets 200] [--bootstrap 1000] [--seed 0]

Transitive truth (normal scores of 5 to 20 items, 1,000 to 100,000 battles): how often the verdict
is "cycle", and how often the 95 % intervals of scores cover the truth. Planted cycles (the first
three of 5 to 10 items form a cycle, 60 to 40; 20,000 battles): how often they are found. Equal
items: how often chance is taken for a cycle or a winner.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np
from scipy.special import expit

import nlhf
from nlhf.preferences.battles import Battles


def votes(P: np.ndarray, n: int, rng: np.random.Generator) -> Battles:
    """Simulate and tally n battles of random pairs with win probabilities P."""
    i, j = np.triu_indices(len(P), 1)
    battles = rng.multinomial(n, np.full(len(i), 1 / len(i)))
    won = rng.binomial(battles, P[i, j]).astype(float)
    items = tuple(f"m{x:02d}" for x in range(len(P)))
    return Battles("simulated", "tallies", items, i, j, won, battles - won, np.zeros(len(i)))


def of_scores(r: np.ndarray) -> np.ndarray:
    """Win probabilities of the Bradley-Terry model."""
    return expit(r[:, None] - r[None])


def transitive(sets: int, bootstrap: int, rng: np.random.Generator, spread: float) -> None:
    """Print verdicts and coverage for data generated from scores."""
    verdicts: Counter[str] = Counter()
    right, held = 0, {"bootstrap": [], "sandwich": []}
    for n in np.geomspace(1000, 100_000, sets).astype(int):
        r = spread * rng.standard_normal(rng.choice([5, 10, 20]))
        r -= r.mean()
        battles = votes(of_scores(r), n, rng)
        c = nlhf.rank(battles, bootstrap=bootstrap, seed=int(n)).contexts[0]
        for item in c.items:
            truth = r[int(item.name[1:])]
            held["bootstrap"].append(item.low <= truth <= item.high)
            held["sandwich"].append(abs(item.bradley_terry - truth) <= 1.96 * item.standard_error)
        verdicts[c.verdict] += 1
        right += c.verdict == "winner" and int(c.winner[1:]) == int(r.argmax())
    covered = ", ".join(f"{kind} {np.mean(inside):.4f}" for kind, inside in held.items())
    print(
        f"transitive, spread {spread}: {dict(verdicts)}, winners right {right}; coverage {covered}",
        flush=True,
    )


def planted(sets: int, bootstrap: int, rng: np.random.Generator) -> None:
    """Print how often a cycle of three at the top is found at 20,000 battles."""
    for k in (3, 5, 10):
        verdicts: Counter[str] = Counter()
        for s in range(sets):
            r = np.concatenate([np.full(3, 1.0), -0.5 * rng.random(k - 3)])
            P = of_scores(r)
            for a, b in ((0, 1), (1, 2), (2, 0)):
                P[a, b], P[b, a] = 0.6, 0.4
            c = nlhf.rank(votes(P, 20_000, rng), bootstrap=bootstrap, seed=s).contexts[0]
            verdicts[c.verdict] += 1
        print(f"planted cycle among {k}: {dict(verdicts)}", flush=True)


def even(sets: int, bootstrap: int, rng: np.random.Generator) -> None:
    """Print how often chance is taken for a result when all items are equal."""
    for k in (3, 10, 30):
        verdicts: Counter[str] = Counter()
        for s in range(sets):
            battles = votes(np.full((k, k), 0.5), 20_000, rng)
            verdicts[nlhf.rank(battles, bootstrap=bootstrap, seed=s).contexts[0].verdict] += 1
        print(f"{k} items alike: {dict(verdicts)}", flush=True)


def main() -> None:
    """Run all simulations."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, began = np.random.default_rng(options.seed), time.process_time()
    for spread in (0.5, 0.1):
        transitive(options.sets, options.bootstrap, rng, spread)
    planted(options.sets, options.bootstrap, rng)
    even(options.sets, options.bootstrap, rng)
    print(f"{time.process_time() - began:.0f} s of CPU time")


if __name__ == "__main__":
    main()
