"""Speed and memory of decoding, as ratios to transformers' `generate` in the same process.

    PYTHONPATH=. python benchmarks/decoding.py [--json] [--repeat N] [--static]

8 rows of the policy and 8 of the mixture (weight 0.125), 128 + 128 tokens, on a Llama of 2 layers
and width 64 with 1,000 words. They are compared with `generate` of one model for 16 rows: with the
plain model, and with the same LoRA adapter. With the adapter both policies run in one pass, or in
two as for models that forbid one pass. The policy runs on 16 rows and the reference on 8, so a
ratio of 1.5 is expected from the arithmetic. With --static both sides use caches of fixed length;
`benchmarks/gpu.py --only decoding` does so on a GPU, with recorded steps. Memory is the size of the
caches at the end, by length, relative to the shortest; linear growth is 2, 4.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from nlhf.language import decoding
from nlhf.language.adapters import Lora, with_adapter
from nlhf.language.decoders import Decoder
from nlhf.language.decoding import Answers, Sampling, decode, draw_uniforms
from nlhf.language.loading import quiet, tiny_model
from nlhf.language.policy import Encoded, Policy

ROWS, PROMPT, ANSWER, WEIGHT, VOCABULARY = 8, 128, 128, 0.125, 1000


def make_policy(lora: bool, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Policy:
    torch.manual_seed(0)
    words = [f"w{i}" for i in range(VOCABULARY)]
    model, tokenizer = tiny_model(words, width=64, heads=4, context=4096)
    reference = None
    with quiet():
        if lora:
            model = with_adapter(model, Lora(rank=8))
        else:
            reference, _ = tiny_model(words, width=64, heads=4, context=4096)
    if reference is not None:
        reference.to(device, dtype)
    return Policy(model.to(device, dtype), reference, tokenizer, (), 0)


def prompts(policy: Policy) -> Encoded:
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(policy.vocabulary, (ROWS, PROMPT), generator=g).to(policy.device)
    return Encoded(ids, torch.ones_like(ids, dtype=torch.bool))


def ours(policy: Policy, length: int = ANSWER, by: Callable[..., Answers] | None = None) -> Answers:
    draws = draw_uniforms(2 * ROWS, length, torch.Generator().manual_seed(2))
    given = (policy, prompts(policy), 1, 1, WEIGHT, Sampling(length), draws)
    return (by or decode)(*given)


@torch.no_grad()
def theirs(policy: Policy, static: bool = False, compiled: bool = False) -> None:
    """Transformers' `generate`; with only a static cache it would be compiled on a GPU."""
    model: Any = policy.model
    given = prompts(policy)
    ids, mask = (torch.cat((each, each)) for each in (given.ids, given.mask.long()))
    settings: dict[str, Any] = {"do_sample": True, "top_k": 0, "min_new_tokens": ANSWER}
    settings |= {"pad_token_id": 0}
    if static:
        settings |= {"cache_implementation": "static", "disable_compile": not compiled}
    with quiet():
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=ANSWER, **settings)


def seconds(works: list[Callable[[], object]], repeat: int) -> list[float]:
    """Median time of each, measured in turns so that a busy machine slows all of them."""
    times: list[list[float]] = [[] for _ in works]
    for round_ in range(repeat + 1):
        for work, found in zip(works, times, strict=True):
            began = time.process_time()
            work()
            if round_:
                found.append(time.process_time() - began)
    return [statistics.median(found) for found in times]


def cache_bytes(policy: Policy, length: int) -> int:
    """Bytes of the caches of both models after an answer of so many tokens."""
    kept: list[Any] = []
    original = decoding.Streams

    class Watched(original):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            kept.append(self)

    decoding.Streams = Watched
    try:
        ours(policy, length)
    finally:
        decoding.Streams = original
    caches = [stream.cache for stream in kept[0].streams]
    layers = [layer for cache in caches for layer in cache.layers]
    return sum(each.nbytes for layer in layers for each in (layer.keys, layer.values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--static", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, lora in (("full", False), ("lora", True), ("lora, two passes", True)):
        policy = make_policy(lora)
        policy.joined = name == "lora"
        by = Decoder("static") if options.static else None
        own, generate = seconds(
            [lambda p=policy, by=by: ours(p, by=by), lambda p=policy: theirs(p, options.static)],
            options.repeat,
        )
        found[name] = {
            "ours_s": own,
            "generate_s": generate,
            "ratio": own / generate,
            "tokens_per_s": 2 * ROWS * ANSWER / own,
        }
        lengths = (PROMPT, 3 * PROMPT, 7 * PROMPT)  # 256, 512 and 1,024 tokens with the prompt
        sizes = [cache_bytes(policy, length) for length in lengths]
        found[name]["memory"] = [size / sizes[0] for size in sizes]
    if options.json:
        print(json.dumps(found))
        return
    for name, each in found.items():
        shown = ", ".join(f"{x:.3f}" for x in each["memory"])
        print(f"{name}: ours {each['ours_s']:.2f} s, generate {each['generate_s']:.2f} s, ", end="")
        print(f"ratio {each['ratio']:.2f}, {each['tokens_per_s']:.0f} tokens/s, memory {shown}")


if __name__ == "__main__":
    main()
