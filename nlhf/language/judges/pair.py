"""`pair:MODEL`: a classifier that reads a prompt and two answers, asked in both orders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.classifiers import Classifier, Row, load_classifier
from nlhf.language.judges.base import AbstractSource, Opening
from nlhf.language.judging import Orders, averaged
from nlhf.language.prompts import Prompt, text_of

Label = Literal["first", "second", "tie"]
_BY_NUMBER: dict[int, tuple[Label, ...]] = {
    1: ("first",),
    2: ("first", "second"),
    3: ("first", "second", "tie"),
}
_LABEL_WORDS: tuple[tuple[Label, str], ...] = (
    ("tie", "tie|tied|draw|equal|same|both|neither"),
    ("first", "a|first|left|1"),
    ("second", "b|second|right|2"),
)
_PLACES: tuple[str, ...] = ("{prompt}", "{a}", "{b}")


@dataclass(frozen=True)
class PairSettings:
    """How a classifier of pairs is read.

    Attributes:
        template: the text that the model reads, with "{prompt}", "{a}" and "{b}" for the prompt,
            the first and the second answer. If empty, the three are joined by the separator of the
            tokenizer.
        outputs: meaning of the model's outputs in order: "first", "second" and "tie". If empty, the
            labels of the model decide, and without clear labels the order given here.
        max_length: largest number of tokens of prompt and answers; the context of the model if not
            set.
        precision: dtype of the weights.
        tokens_a_pass: largest number of tokens per forward pass.
    """

    template: str = ""
    outputs: tuple[Label, ...] = ()
    max_length: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    tokens_a_pass: Annotated[int, Field(ge=1)] = 8192


class PairJudge(AbstractSource):
    """P(a > b | x) = (p(x, a, b) + 1 - p(x, b, a)) / 2, p the share of the first answer.

        p = sigmoid(z)                          one output
        p = softmax(z)_first + softmax(z)_tie / 2     two or three outputs

    Source: both orders, Jiang et al. 2023 (arXiv 2306.02561), section 3.
    """

    prefix = "pair"
    form = "pair:MODEL"
    Settings = PairSettings
    antisymmetric = True

    def __init__(
        self, classifier: Classifier, name: str, template: str = "", outputs: Sequence[Label] = ()
    ) -> None:
        """Wrap the classifier.

        Args:
            classifier: a classifier with one to three outputs.
            name: name in messages.
            template, outputs: see `PairSettings`.

        Raises:
            InputError: a different number of outputs, or `outputs` does not name them; a template
                without one of its three placeholders.
        """
        wanted = _BY_NUMBER.get(classifier.outputs)
        if wanted is None:
            raise InputError(
                f"preference {name}: the model has {classifier.outputs} outputs; a classifier of "
                "pairs has one, two (first, second) or three (and tie)"
            )
        given = tuple(outputs) or _labels(classifier.labels) or wanted
        allowed = (("first",), ("second",)) if classifier.outputs == 1 else None
        if given not in allowed if allowed else sorted(given) != sorted(wanted):
            raise InputError(
                f"preference {name}: sources.pair.outputs={list(given)} does not name the model's "
                f"{classifier.outputs} outputs; give {', '.join(wanted)} in their order"
            )
        for place in _PLACES:
            if template and place not in template:
                raise InputError(f"preference {name}: its template lacks {place}")
        tokenizer = classifier.tokenizer
        between = tokenizer.sep_token or "\n\n"
        self._classifier, self.name, self.outputs = classifier, name, given
        self.template = template or between.join(_PLACES)
        self._orders = Orders()

    @classmethod
    def open(cls, name: str, settings: PairSettings, opening: Opening) -> PairJudge:
        """Load a model with AutoModelForSequenceClassification: a folder or a name on the hub."""
        classifier = load_classifier(name.partition(":")[2], opening.device, settings)
        return cls(classifier, name, settings.template, settings.outputs)

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P(a > b | x), [B], float64."""
        both = self._first_wins([*prompts, *prompts], [*a, *b], [*b, *a])
        forward, backward = both[: len(a)], both[len(a) :]
        self._orders.add(forward, backward)
        return averaged(forward, backward)

    def facts(self) -> dict[str, Any]:
        """The facts, including its template and the meaning of its outputs."""
        return {
            **super().facts(),
            "kind": "classifier of pairs",
            "reads": self.template,
            "outputs": list(self.outputs),
        }

    def counts(self) -> dict[str, float]:
        """Effects of the order, and the number of truncated rows."""
        return {**self._orders.counts(), "cut": self._classifier.cut}

    def _first_wins(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Tensor:
        """The probability that the answer shown first is preferred, [B]."""
        texts = zip(map(text_of, prompts), first, second, strict=True)
        rows = [self._classifier.fitted(each, self._row) for each in texts]
        z = self._classifier.logits(rows)
        if len(self.outputs) == 1:
            p = torch.sigmoid(z[:, 0])
            return p if self.outputs[0] == "first" else 1 - p
        share = dict(zip(self.outputs, torch.softmax(z, -1).unbind(-1), strict=True))
        tie = share.get("tie")
        return share["first"] if tie is None else share["first"] + tie / 2

    def _row(self, texts: Sequence[str]) -> Row:
        parts: dict[str, str] = dict(zip(_PLACES, texts, strict=True))
        filled = re.sub(r"\{prompt\}|\{a\}|\{b\}", lambda at: parts[at[0]], self.template)
        return self._classifier.tokens(filled)


def _labels(names: Sequence[str]) -> tuple[Label, ...]:
    """The meaning of a model's own labels; empty where they are unclear."""
    found: list[Label] = []
    for name in names:
        words = set(re.split(r"[^a-z0-9]+", name.lower()))
        meanings: list[Label] = [
            kind for kind, text in _LABEL_WORDS if words & set(text.split("|"))
        ]
        if "label" in words or not meanings:
            return ()
        found.append(meanings[0])
    return tuple(found) if sorted(found) == sorted(_BY_NUMBER[len(names)]) else ()
