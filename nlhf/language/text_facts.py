"""Facts and warnings about prompts and their answers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from nlhf.language.pair_facts import Facts
from nlhf.language.prompts import Example, Prompt, key_of, text_of


def prompt_facts(prompts: Sequence[Prompt]) -> Facts:
    """Count prompts, duplicates and characters."""
    lengths = [len(text_of(prompt)) for prompt in prompts]
    again = len(prompts) - len({key_of(prompt) for prompt in prompts})
    facts = {
        "prompts": len(prompts),
        "characters": f"{min(lengths)} to {max(lengths)}",
        "of messages": sum(not isinstance(prompt, str) for prompt in prompts),
        "prompts given again": again,
    }
    warnings = (f"{again} prompts are given again",) if again else ()
    return Facts(facts, warnings)


def example_facts(learned: Sequence[Example], held: Sequence[Example]) -> Facts:
    """Count examples, prompts with several answers, and examples in both parts."""
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
    warning = f"{shared} held-out examples have a prompt that is also learned from"
    return Facts(facts, (warning,) if shared else ())


def tournament_facts(
    prompts: Sequence[Prompt],
    files: Mapping[str, Mapping[str, str]],
    models: Sequence[str],
) -> Facts:
    """Count the types of policies in a tournament, and describe the known answers.

    Args:
        prompts: N prompts.
        files: the known answers of each policy by name, keyed by `key_of` the prompt; they cover
            all prompts and may cover more.
        models: the policies that have yet to answer.
    """
    about_prompts, keys = prompt_facts(prompts), dict.fromkeys(map(key_of, prompts))
    answers = {name: [known[key] for key in keys] for name, known in files.items()}
    unasked = {name: len(known) - len(keys) for name, known in files.items()}
    empty = {name: sum(not text.strip() for text in texts) for name, texts in answers.items()}
    again = {name: len(texts) - len(set(texts)) for name, texts in answers.items()}
    same = {
        f"{a} and {b}": sum(map(str.__eq__, answers[a], answers[b]))
        for a, b in itertools.combinations(answers, 2)
    }
    facts = {
        **about_prompts.of,
        "models": list(models),
        "answers in a file": {name: len(known) for name, known in files.items()},
        "of them to prompts not asked": _some(unasked),
        "answers that another prompt has too": _some(again),
        "empty answers": _some(empty),
        "identical answers": _some(same),
    }
    warnings = [*about_prompts.warnings]
    warnings += [f"{n} answers of {name} are empty" for name, n in _some(empty).items()]
    warnings += [
        f"{pair} give the same answers to all prompts: nothing can tell them apart"
        for pair, n in same.items()
        if n == len(keys)
    ]
    return Facts(facts, tuple(warnings))


def _some(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: n for name, n in counts.items() if n}
