"""Prompts and examples are counted."""

from __future__ import annotations

from nlhf.language.prompts import Example
from nlhf.language.text_facts import example_facts, prompt_facts


def test_prompts_given_again_are_told() -> None:
    facts = prompt_facts(["a", "abc", "a", [{"role": "user", "content": "abcd"}]])
    assert facts.of == {
        "prompts": 4,
        "characters": "1 to 4",
        "of messages": 1,
        "prompts given again": 1,
    }
    assert facts.warnings == ("1 prompts are given again",)


def test_examples_on_both_sides_are_told() -> None:
    learned = [Example("a", "x"), Example("a", "x"), Example("a", "yy"), Example("b", "z")]
    facts = example_facts(learned, [Example("b", "other"), Example("c", "x")])
    assert facts.of["examples given again"] == 1
    assert facts.of["prompts with several answers"] == 1
    assert facts.of["held-out examples whose prompt is learned"] == 1
    assert facts.of["characters of an answer"] == "1 to 5"
    assert len(facts.warnings) == 1
    assert example_facts(learned, []).warnings == ()
