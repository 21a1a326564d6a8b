"""Answers of a policy by vLLM relative to the decoder of this program, on a GPU.

    PYTHONPATH=. python benchmarks/vllm_sampling.py [--model SPEC] [--json] [--repeat N] [--dry-run]

64 answers of up to 256 tokens to 16 prompts, with all weights and with LoRA, in bfloat16. A call of
vLLM includes the copy of the weights, which is also timed alone. `difference` is the mean of
|log pi by vLLM - log pi scored| per token, beside that of the program's own decoder. Needs the
extras lm and vllm. Without a GPU: one line, and exit code 2. --dry-run names what is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from nlhf.language.adapters import Lora
from nlhf.language.decoders import Decoder
from nlhf.language.decoding import Answers, Sampling, draw_uniforms
from nlhf.language.loading import load_policy
from nlhf.language.scoring import score
from nlhf.language.vllm_sampling import start_vllm

PROMPTS = [f"Explain in a few sentences what the number {n} is used for." for n in range(16)]
EACH, LENGTH = 4, 256


def difference(policy: Any, encoded: Any, found: Answers) -> float:
    """The mean of |log pi drawn - log pi scored| over the answers' tokens."""
    index = torch.arange(len(PROMPTS), device=policy.device).repeat_interleave(EACH)
    with torch.no_grad():
        scored = score(policy, encoded, found.tokens, found.mask, index=index).log_prob
    return float((scored - found.log_pi)[found.mask].abs().mean())


def seconds(works: list[Callable[[], object]], repeat: int) -> list[float]:
    """Median wall time of each, in turns, after one call that is not counted."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(repeat + 1):
        for work, kept in zip(works, times, strict=True):
            torch.cuda.synchronize()
            began = time.perf_counter()
            work()
            torch.cuda.synchronize()
            if turn:
                kept.append(time.perf_counter() - began)
    return [statistics.median(kept) for kept in times]


def measured(model: str, lora: Lora | None, repeat: int) -> dict[str, float]:
    policy = load_policy(model, lora=lora, dtype=torch.bfloat16, device="cuda")
    sampling, own = Sampling(LENGTH), Decoder()
    decoder = start_vllm(policy, PROMPTS, sampling, own, memory=0.3, dtype="bfloat16")
    engine, encoded = decoder.engine, policy.encode(PROMPTS)
    uniforms = draw_uniforms(len(PROMPTS) * EACH, LENGTH, torch.Generator().manual_seed(1))
    given = (policy, encoded, EACH, 0, 0.0, sampling, uniforms)
    last: dict[str, Answers] = {}

    def draw(name: str, by: Decoder) -> None:
        last[name] = by(*given)

    times = seconds(
        [
            lambda: draw("vllm", decoder),
            lambda: draw("own", own),
            lambda: engine.take(policy, reference=False),
        ],
        repeat,
    )
    rates = {name: float(last[name].mask.sum()) / times[i] for i, name in enumerate(last)}
    off = {f"difference_{name}": difference(policy, encoded, each) for name, each in last.items()}
    return {
        "vllm_tokens_per_s": rates["vllm"],
        "own_tokens_per_s": rates["own"],
        "ratio": rates["vllm"] / rates["own"],
        "copy_s": times[2],
        **off,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    kinds = {"full": None, "lora": Lora(rank=8)}
    if options.dry_run:
        shape = f"{len(PROMPTS)} x {EACH} answers of {LENGTH} tokens"
        print("\n".join(f"{name}: {shape} of {options.model}" for name in kinds))
        return 0
    if not torch.cuda.is_available():
        print("error: this benchmark needs a GPU; --dry-run shows what it does", file=sys.stderr)
        return 2
    found = {"device": torch.cuda.get_device_name(), "model": options.model}
    rows = {name: measured(options.model, lora, options.repeat) for name, lora in kinds.items()}
    if options.json:
        print(json.dumps({**found, **rows}))
        return 0
    print(f"{found['model']} on {found['device']}")
    for name, row in rows.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
