"""Reproduce the reference figures: median KL(pi* || pi_T) of each method, and their ratio.

    PYTHONPATH=. python benchmarks/nash_reference.py [--json]

50 random games (independent uniform win probabilities, references uniform on the simplex), K = 10,
tau = 0.1, float64. A reference value of at most 1e-16 is rounding error: any smaller value agrees
with it. Exit code 1 if a value is off by more than a factor of 2.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from nlhf import run_tabular
from nlhf.algorithms import Extragradient, Magnetic, MirrorProx, NashMD, SelfPlay
from nlhf.games import random_games, random_policies

ROUNDING = 1e-16
REFERENCE = {
    "nash-md, eta = 2/(tau(t+2))": (
        NashMD(),
        {10: 8.2e-3, 100: 5.6e-5, 1000: 5.7e-7, 10000: 5.7e-9},
    ),
    "nash-md, eta = 0.1": (NashMD(0.1), {10: 0.23, 100: 3.7e-2, 1000: 8.9e-6, 10000: 8.9e-6}),
    "self-play, eta = 2/(tau(t+2))": (
        SelfPlay(),
        {10: 4.1e-3, 100: 9.6e-7, 1000: 1.0e-10, 10000: 1.1e-14},
    ),
    "extragradient, eta = 2": (Extragradient(2.0), {10: 2e-3, 100: 5e-17}),
    "magnetic, eta = 1": (Magnetic(1.0), {10: 4.4e-2, 100: 5.1e-9, 1000: 3e-17}),
    "mirror-prox, eta = 2": (MirrorProx(2.0), {10: 5e-3, 100: 3e-17}),
}


def measure(seed: int = 0) -> dict[str, dict[int, tuple[float, float]]]:
    """Measured value and reference by method and T."""
    g = torch.Generator().manual_seed(seed)
    P, mu = random_games(50, 10, g), random_policies(50, 10, g)
    found = {}
    for name, (method, figures) in REFERENCE.items():
        steps = sorted(figures)
        sweep = run_tabular(P, mu, 0.1, [method], iterations=steps[-1], record=steps)
        medians = sweep.kl_from_equilibrium[0, 0, 0].median(0).values.tolist()
        found[name] = {t: (value, figures[t]) for t, value in zip(steps, medians, strict=True)}
    return found


def agrees(value: float, reference: float) -> bool:
    """Whether it is within a factor of 2, or below a reference that is rounding error."""
    return value / 2 <= reference <= value * 2 or max(value, reference) <= ROUNDING


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = measure()
    if arguments.json:
        print(json.dumps({n: {t: v for t, (v, _) in row.items()} for n, row in found.items()}))
    else:
        for name, row in found.items():
            cells = (f"T={t}: {v:.1e} (x{v / r:.2f})" for t, (v, r) in row.items())
            print(f"{name:32} " + "  ".join(cells))
    if not all(agrees(v, r) for row in found.values() for v, r in row.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
