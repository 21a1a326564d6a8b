"""Decoding on a GPU, for `benchmarks/gpu.py`: recorded steps against the loop and `generate`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

Result = dict[str, Any]
Work = Callable[[str], Result]
REPEAT = 3


def seconds(work: Callable[[], object], device: str, repeat: int = REPEAT) -> float:
    """Median time of a call, without the first."""
    times = []
    for _ in range(repeat + 1):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def agreement(lora: bool, length: int = 32) -> Work:
    """Recorded steps on the device against the loop on the CPU, in float64: scores and tokens."""

    def work(device: str) -> Result:
        from benchmarks.decoding import make_policy, ours
        from nlhf.language.decoders import Decoder

        notes: list[str] = []
        here, there = (make_policy(lora, place, torch.float64) for place in ("cpu", device))
        expected = ours(here, length)
        found = ours(there, length, Decoder("static", note=notes.append))
        other = (found.tokens.cpu() != expected.tokens).double().mean()
        scores = ((found.log_pi.cpu(), expected.log_pi), (found.log_mu.cpu(), expected.log_mu))
        off = max(float((a - b).nan_to_num().abs().max()) for a, b in scores)
        return {"off": off, "other tokens": float(other), "how": _how(notes)}

    return work


def ratio(kind: str, compiled: bool = False) -> Work:
    """8 + 8 rows, 128 + 128 tokens: recorded steps relative to `generate` with a static cache too.

    Args:
        kind: "full", "lora", "lora, two passes", or "smollm2": its size, LoRA, bfloat16.
        compiled: also compare with `generate` as transformers compiles it by default.
    """

    def work(device: str) -> Result:
        from benchmarks.decoding import ANSWER, ROWS, make_policy, ours, theirs
        from nlhf.language.decoders import Decoder

        if kind == "smollm2":
            from benchmarks.language_step import make_policy as make_larger

            policy = make_larger(30, torch.bfloat16)
            policy.model.to(device)
        else:
            policy = make_policy(kind != "full", device)
            policy.joined = policy.joined and kind != "lora, two passes"
        notes: list[str] = []
        decoder = Decoder("static", note=notes.append)
        mine = seconds(lambda: ours(policy, by=decoder), device)
        generate = seconds(lambda: theirs(policy, static=True), device)
        found: Result = {"ratio": mine / generate, "s": mine, "generate s": generate}
        found |= {"tokens/s": 2 * ROWS * ANSWER / mine, "how": _how(notes)}
        if compiled:
            try:
                other = seconds(lambda: theirs(policy, static=True, compiled=True), device)
                found |= {"compiled generate s": other, "ratio to compiled": mine / other}
            except Exception as error:  # it needs a compiler
                found["compiled generate"] = f"{type(error).__name__}: {error}"[:100]
        return found

    return work


def _how(notes: list[str]) -> str:
    return "; ".join(notes) or "step by step"


def checks() -> Iterator[tuple[str, Work, float | None]]:
    """Name, work and upper limit of each check."""
    for lora in (False, True):
        yield f"{'lora' if lora else 'full'} float64, scores", agreement(lora), 1e-4
    for kind in ("full", "lora"):
        work = ratio(kind, compiled=kind == "full")
        yield f"8 + 8 rows, 128 + 128 tokens, {kind}", work, 1.3
    yield "the same, lora, two passes", ratio("lora, two passes"), None
    yield "the same, 135M, bfloat16, lora", ratio("smollm2"), None
