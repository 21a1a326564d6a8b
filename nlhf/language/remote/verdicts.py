"""Parse a chat model's reply into the probability that the first answer is preferred."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_LEAD = (
    r"(?:(?:the|my|final|better|best|preferred|chosen|verdict|answer|answers|response|reply|option|"
    r"choice|winner|output|assistant|is)\b\W*)*"
)


class Unreadable(ValueError):
    """A reply that cannot be parsed; the text gives the reason."""


@dataclass(frozen=True)
class Verdict:
    """The parsed reply.

    Attributes:
        p: the probability that the first answer is preferred.
        text: the reply.
        weighed: whether p comes from token probabilities, rather than from the text alone.
    """

    p: float
    text: str
    weighed: bool


def read_verdict(body: object, labels: Sequence[str], weighs: bool) -> Verdict:
    """Read a chat completion.

        p = (p_first + p_tie / 2) / (p_first + p_second + p_tie)

    The probabilities are those of the token that names the winner, if the reply lists them.
    Otherwise p is 1, 0 or 1/2, according to the text.

    Args:
        body: the JSON of the reply.
        labels: the labels of the first and the second answer, and optionally of a tie.
        weighs: whether to look for token probabilities.

    Raises:
        Unreadable: it is not a completion, or it names no winner.
    """
    choice = _choice(body)
    text = _text(choice)
    if weighs and (tokens := _tokens(choice)):
        joined = "".join(token["token"] for token in tokens)
        try:
            _, place = find_label(joined, labels)
        except Unreadable:
            place = None
        p = None if place is None else _weighed(tokens, place, labels)
        if p is not None:
            return Verdict(p, text, True)
    label, _ = find_label(text, labels)
    return Verdict((1.0, 0.0, 0.5)[list(labels).index(label)], text, False)


def find_label(text: str, labels: Sequence[str]) -> tuple[str, int]:
    """Find the label that names the winner, and its position.

    It is the last label in double brackets, [[A]]. Otherwise it is the label at the start of the
    text, possibly after words such as "Answer:", unless the sentence goes on with a different
    meaning. Text in <think> tags is ignored.

    Raises:
        Unreadable: there is no label, or its meaning is doubtful.
    """
    # blanks preserve positions
    plain = _THOUGHT.sub(lambda at: " " * len(at[0]), text)
    either = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    bracketed = list(re.finditer(rf"\[\[\s*({either})\s*\]\]", plain))
    if bracketed:
        return bracketed[-1][1], bracketed[-1].start(1)
    found = re.match(
        rf"\W*(?i:{_LEAD})({either})(?!\w)\s*(?:$|[^\w\s]|\n|(?:is|was|wins|won)\b)", plain
    )
    if found is None:
        raise Unreadable(f"it names none of {', '.join(labels)}: {excerpt(text)}")
    return found[1], found.start(1)


def tokens_used(body: object) -> tuple[int, int]:
    """The numbers of tokens of question and reply that a completion reports; 0 if it does not."""
    usage = body.get("usage") if isinstance(body, Mapping) else None
    if not isinstance(usage, Mapping):
        return 0, 0
    counts = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
    first, second = (n if isinstance(n, int) and 0 <= n < 2**53 else 0 for n in counts)
    return first, second


def excerpt(text: str, most: int = 120) -> str:
    """A text in one line and in quotes, shortened at the end if it is long."""
    line = " ".join(text.split())
    return repr(line if len(line) <= most else line[: most - 3] + "...")


def _choice(body: object) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise Unreadable(f"it is {type(body).__name__} in JSON, no chat completion")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        reason = body.get("error")
        more = f": {excerpt(str(reason))}" if reason else ""
        raise Unreadable(f"it has no choices{more}")
    return choices[0]


def _text(choice: Mapping[str, Any]) -> str:
    """The text of the reply, which may consist of parts."""
    message = choice.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "".join(part for part in parts if isinstance(part, str)) or None
    if not isinstance(content, str):
        raise Unreadable("its message has no text")
    return content


def _tokens(choice: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tokens of the reply with their probabilities; empty if the reply has none."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list):
        return []
    fits = all(isinstance(t, Mapping) and isinstance(t.get("token"), str) for t in content)
    return content if fits else []


def _weighed(
    tokens: Sequence[Mapping[str, Any]], place: int, labels: Sequence[str]
) -> float | None:
    """p from the token at a position of the text; None if the token lists no label."""
    start, at = 0, None
    for token in tokens:
        if start <= place < start + len(token["token"]):
            at = token
            break
        start += len(token["token"])
    if at is None:
        return None
    listed = at.get("top_logprobs")
    if not isinstance(listed, list):
        return None
    mass = dict.fromkeys(labels, 0.0)
    for each in listed:
        if not isinstance(each, Mapping) or not isinstance(each.get("token"), str):
            continue
        label = re.sub(r"^\W+|\W+$", "", each["token"])
        value = each.get("logprob")
        # rounding may go below 0; NaN fails every comparison
        if label in mass and isinstance(value, int | float) and value <= 1e-3:
            mass[label] += math.exp(value)
    total = sum(mass.values())
    if not total > 0:
        return None
    first, _, tie = (*mass.values(), 0.0)[:3]
    return min((first + tie / 2) / total, 1.0)
