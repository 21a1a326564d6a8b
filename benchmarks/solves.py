"""What the guard of batched linear solves costs on several threads, as ratios to one thread.

    PYTHONPATH=. python benchmarks/solves.py [--threads N] [--batch N] [--repeat N] [--json]

On several threads, torch factors the matrices of a batch in parallel, and fails from n = 151 on.
`bioplaus.linear.solve` therefore solves matrices above n = 128 one after another, each on all
threads. The reference is the same batch on one thread, where the parallel factorisation is right.
A ratio of 1/N is a perfect use of N threads, and 1 means that the threads gain nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from bioplaus.linear import SAFE, solve

SIZES = (64, 128, 160, 200, 300, 500)


def seconds(A: Tensor, b: Tensor, threads: int) -> float:
    torch.set_num_threads(threads)
    began = time.perf_counter()
    solve(A, b)
    return time.perf_counter() - began


def measure(n: int, batch: int, threads: int, repeat: int) -> dict[str, Any]:
    g = torch.Generator().manual_seed(0)
    A = torch.eye(n).double() + 0.5 * torch.randn(batch, n, n, generator=g).double() / n**0.5
    b = torch.randn(batch, n, 1, generator=g).double()
    for count in (1, threads):  # the first call on a size and number of threads is slower
        seconds(A, b, count)
    pairs = [(seconds(A, b, threads), seconds(A, b, 1)) for _ in range(repeat)]
    ratios = [several / one for several, one in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "n": n,
        "guarded": n > SAFE,
        "ratio": middle,
        "quartiles": (low, high),
        "one_thread_ms": 1e3 * statistics.median(one for _, one in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = [measure(n, args.batch, args.threads, args.repeat) for n in SIZES]
    if args.json:
        print(json.dumps(rows))
        return
    print(f"{args.batch} matrices, {args.threads} threads against one")
    print("| n | guarded | ratio (quartiles) | one thread, ms |\n|---|---|---|---|")
    for row in rows:
        low, high = row["quartiles"]
        guarded = "yes" if row["guarded"] else "no"
        print(f"| {row['n']} | {guarded} | {row['ratio']:.2f} ({low:.2f} to {high:.2f}) "
              f"| {row['one_thread_ms']:.1f} |")  # fmt: skip


if __name__ == "__main__":
    main()
