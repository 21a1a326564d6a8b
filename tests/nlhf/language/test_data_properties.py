"""One comparison is the same in all layouts, and any row is read or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlhf.errors import InputError
from nlhf.language.reading import read_comparisons, read_examples, read_prompts, registry

Messages = list[dict[str, str]]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


TEXT = st.text(st.sampled_from("ab .,\n:é"), max_size=8).map(str.strip).filter(bool)
TURNS = st.lists(st.tuples(TEXT, TEXT), max_size=2)


def tellings(before: Messages, yes: str, no: str) -> dict[str, dict[str, Any]]:
    """One comparison in all layouts of conversations."""
    a, b = [*before, assistant(yes)], [*before, assistant(no)]

    def transcribed(talk: Messages) -> str:
        names = {"user": "Human", "assistant": "Assistant"}
        return "".join(f"\n\n{names[each['role']]}: {each['content']}" for each in talk)

    def shared(talk: Messages) -> list[dict[str, str]]:
        names = {"user": "human", "assistant": "gpt"}
        return [{"from": names[each["role"]], "value": each["content"]} for each in talk]

    def parts(talk: Messages) -> list[dict[str, Any]]:
        return [{**each, "content": [{"type": "text", "text": each["content"]}]} for each in talk]

    scores = {"score_chosen": 2.0, "score_rejected": 1}
    return {
        "explicit": {"prompt": before, "chosen": a[-1:], "rejected": b[-1:]},
        "whole": {"prompt": before, "chosen": a, "rejected": b},
        "implicit": {"chosen": a, "rejected": b},
        "UltraFeedback": {"prompt": before[-1]["content"], "chosen": a, "rejected": b, **scores},
        "HH": {"chosen": transcribed(a), "rejected": transcribed(b)},
        "arena": {"conversation_a": a, "conversation_b": b, "winner": "model_a"},
        "ShareGPT": {"conversations": shared(before), "chosen": shared(a)[-1],
                     "rejected": shared(b)[-1]},
        "parts": {"prompt": parts(before), "chosen": parts(a)[-1:], "rejected": parts(b)[-1:]},
    }  # fmt: skip


@given(TURNS, TEXT, TEXT, TEXT)
def test_one_comparison_is_the_same_in_all_layouts(
    turns: list[tuple[str, str]], asked: str, yes: str, no: str
) -> None:
    before = [each for u, a in turns for each in (user(u), assistant(a))] + [user(asked)]
    for row in tellings(before, yes, no).values():
        (c,) = read_comparisons([row]).kept
        assert (c.prompt, c.a, c.b, c.share) == (before, yes, no, 1.0)


KEYS = sorted(
    {name for each in registry.all_layouts() for names in each.needs for name in names}
    | {"system", "turn", "tools", "images", "model_a", "labels", "ties", "score_a", "winner_tie"}
)
PLAIN = st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text(max_size=3)
PLAIN |= st.sampled_from(["a", "a b", "model_a", "1", '["a"]', "Human: x\n\nAssistant: y"])
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "tool", None, 1]),
        "content": PLAIN | st.lists(PLAIN | st.fixed_dictionaries({"type": PLAIN, "text": PLAIN})),
        "from": st.sampled_from(["human", "gpt"]),
        "value": PLAIN,
        "tool_calls": PLAIN,
    },
)
VALUE = PLAIN | MESSAGE | st.lists(MESSAGE | PLAIN, max_size=3)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # they time the machine
@given(
    st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=6), st.sampled_from(["error", "skip"])
)
def test_any_row_is_read_or_refused_in_one_line(row: dict[str, Any], bad: Any) -> None:
    readers: tuple[Callable[..., Any], ...] = (read_comparisons, read_prompts, read_examples)
    for reader in readers:
        try:
            for found in reader([row], bad).kept:
                prompt = getattr(found, "prompt", found)
                assert isinstance(prompt, str) or prompt[-1]["role"] == "user"
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
