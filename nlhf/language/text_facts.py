"""What prompts and answers to them are like: plain facts and warnings."""

from __future__ import annotations

from collections.abc import Sequence

from nlhf.language.pair_facts import Facts
from nlhf.language.prompts import Example, Prompt, key_of, text_of


def prompt_facts(prompts: Sequence[Prompt]) -> Facts:
    """Count prompts, those given again, and their characters."""
    lengths = [len(text_of(prompt)) for prompt in prompts]
    again = len(prompts) - len({key_of(prompt) for prompt in prompts})
    facts = {
        "prompts": len(prompts),
        "characters": f"{min(lengths)} to {max(lengths)}",
        "of messages": sum(not isinstance(prompt, str) for prompt in prompts),
        "prompts given again": again,
    }
    return Facts(facts, (f"{again} prompts are given again",) if again else ())


def example_facts(learned: Sequence[Example], held: Sequence[Example]) -> Facts:
    """Count examples, prompts with several answers, and examples on both sides."""
    keys = [key_of(each.prompt) for each in learned]
    pairs = {(key, each.completion) for key, each in zip(keys, learned, strict=True)}
    known = set(keys)
    shared = sum(key_of(each.prompt) in known for each in held)
    lengths = [len(each.completion) for each in (*learned, *held)]
    facts = {
        "examples to learn from": len(learned),
        "examples held out": len(held),
        "prompts": len(set(keys)),
        "characters of an answer": f"{min(lengths)} to {max(lengths)}",
        "examples given again": len(learned) - len(pairs),
        "prompts with several answers": len(pairs) - len(set(keys)),
        "held-out examples whose prompt is learned": shared,
    }
    told = f"{shared} held-out examples have a prompt that is also learned from"
    return Facts(facts, (told,) if shared else ())
