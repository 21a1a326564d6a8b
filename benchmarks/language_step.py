"""Where a training step of a language model spends its time, in CPU seconds on one thread.

    PYTHONPATH=. python benchmarks/language_step.py [--layers N] [--repeat N]

A random Llama of SmolLM2-135M's size with LoRA of rank 8 on queries and values; 2 prompts of 70
tokens, each with 4 answers of the policy and 1 of the mixture (weight 0.125), 16 tokens. Scoring
processes each prompt once for all its answers and, for comparison, once for each. Reports the
smallest time of the repeats, which are taken in turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import transformers

from nlhf.language import scoring
from nlhf.language.adapters import Lora, with_adapter
from nlhf.language.decoding import Sampling, decode, draw_uniforms
from nlhf.language.loading import quiet
from nlhf.language.policy import Encoded, Policy

PROMPTS, PROMPT, OWN, OTHER, ANSWER, VOCABULARY = 2, 70, 4, 1, 16, 49152


def make_policy(layers: int, dtype: torch.dtype) -> Policy:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config).to(dtype)
    with quiet():
        adapted = with_adapter(model, Lora(8, 16.0, ("q_proj", "v_proj")))
    return Policy(adapted, None, None, (), 0)


def works(policy: Policy, autocast: torch.dtype | None) -> dict[str, Callable[[], None]]:
    """The parts of a step, by name."""
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCABULARY, (PROMPTS, PROMPT), generator=g)
    prompts = Encoded(ids, torch.ones_like(ids, dtype=torch.bool))
    draws = draw_uniforms(PROMPTS * (OWN + OTHER), ANSWER, g)
    answers = torch.randint(VOCABULARY, (PROMPTS * OWN, ANSWER), generator=g)
    index = torch.arange(PROMPTS).repeat_interleave(OWN)

    def scored(least: int, reference: bool) -> None:
        scoring.SHARED = least
        everything = torch.ones_like(answers, dtype=torch.bool)
        found = scoring.score(
            policy,
            prompts,
            answers,
            everything,
            index=index,
            reference=reference,
            autocast=autocast,
        )
        if not reference:
            found.log_prob.sum().backward()

    return {
        "sampling": lambda: decode(
            policy, prompts, OWN, OTHER, 0.125, Sampling(ANSWER), draws
        ).tokens.sum(),
        "scoring by the policy, with its gradient": lambda: scored(0, False),
        "the same, a prompt run for every answer": lambda: scored(10**9, False),
        "scoring by the reference": lambda: scored(0, True),
        "the same, a prompt run for every answer ": lambda: scored(10**9, True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plain, half = (make_policy(options.layers, d) for d in (torch.float32, torch.bfloat16))
    columns = {
        "float32": works(plain, None),
        "mixed_precision": works(plain, torch.bfloat16),
        "precision=bfloat16": works(half, None),
    }
    best = {(c, name): float("inf") for c, parts in columns.items() for name in parts}
    for _ in range(options.repeat + 1):
        for column, parts in columns.items():
            for name, work in parts.items():
                began = time.process_time()
                work()
                best[column, name] = min(best[column, name], time.process_time() - began)
    print("| | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name in columns["float32"]:
        print(f"| {name.strip()} | " + " | ".join(f"{best[c, name]:.2f}" for c in columns) + " |")


if __name__ == "__main__":
    main()
