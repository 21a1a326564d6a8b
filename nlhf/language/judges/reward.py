"""`reward:MODEL`: a scalar reward model as a preference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.classifiers import Classifier, Row, load_classifier, messages_of
from nlhf.language.judges.base import AbstractSource, Opening
from nlhf.language.prompts import Prompt, text_of


@dataclass(frozen=True)
class RewardSettings:
    """How a reward model is read.

    Attributes:
        template: the text that the model reads, with "{prompt}" and "{answer}". If empty, the chat
            template of the tokenizer, or without one the pair (prompt, answer) as the tokenizer
            joins them.
        max_length: largest number of tokens of prompt and answer; the context of the model if not
            set.
        precision: dtype of the weights.
        tokens_a_pass: largest number of tokens per forward pass.
    """

    template: str = ""
    max_length: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    tokens_a_pass: Annotated[int, Field(ge=1)] = 8192


class RewardJudge(AbstractSource):
    """P(a > b | x) = sigmoid(r(x, a) - r(x, b)), r the single output of a sequence classifier.

    It is a reward model, hence transitive whatever it has learned.

    Source: Bradley and Terry 1952; Munos et al. 2023 (arXiv 2312.00886), section 3.
    """

    prefix = "reward"
    form = "reward:MODEL"
    Settings = RewardSettings
    antisymmetric = True
    transitive = True

    def __init__(self, classifier: Classifier, name: str, template: str = "") -> None:
        """Wrap the classifier.

        Args:
            classifier: a classifier with one output.
            name: name in messages.
            template: see `RewardSettings`.

        Raises:
            InputError: several outputs, or a template without "{prompt}" or "{answer}".
        """
        if classifier.outputs != 1:
            raise InputError(
                f"preference {name}: the model has {classifier.outputs} outputs "
                f"({', '.join(classifier.labels[:4])}); a reward model has one; a classifier of "
                "pairs is named pair:MODEL"
            )
        for place in ("{prompt}", "{answer}"):
            if template and place not in template:
                raise InputError(f"preference {name}: its template lacks {place}")
        self._classifier, self.name, self._template = classifier, name, template

    @classmethod
    def open(cls, name: str, settings: RewardSettings, opening: Opening) -> RewardJudge:
        """Load a model with AutoModelForSequenceClassification: a folder or a name on the hub."""
        classifier = load_classifier(name.partition(":")[2], opening.device, settings)
        return cls(classifier, name, settings.template)

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """P(a > b | x), [B], float64."""
        rewards = self.reward([*prompts, *prompts], [*a, *b])
        return torch.sigmoid(rewards[: len(a)] - rewards[len(a) :])

    def reward(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> Tensor:
        """r(x, y), [B], float64."""
        rows = [self._row(x, y) for x, y in zip(prompts, answers, strict=True)]
        keys = [tuple(row["input_ids"]) for row in rows]
        unique = dict(zip(keys, rows, strict=True))
        found = self._classifier.logits(list(unique.values()))[:, 0]
        number = {key: i for i, key in enumerate(unique)}
        return found[[number[key] for key in keys]]

    def facts(self) -> dict[str, Any]:
        """The facts, including its template."""
        has_chat = bool(getattr(self._classifier.tokenizer, "chat_template", None))
        reads = "chat template" if has_chat else "pair of prompt and answer"
        return {**super().facts(), "kind": "reward model", "reads": self._template or reads}

    def counts(self) -> dict[str, float]:
        """The number of truncated rows."""
        return {"cut": self._classifier.cut}

    def _row(self, prompt: Prompt, answer: str) -> Row:
        tokenizer, classifier = self._classifier.tokenizer, self._classifier
        if not self._template and getattr(tokenizer, "chat_template", None):
            messages = [*messages_of(prompt), {"role": "assistant", "content": answer}]

            def chat(texts: Sequence[str]) -> Row:
                pairs = zip(messages, texts, strict=True)
                return classifier.chat([{**each, "content": text} for each, text in pairs])

            return classifier.fitted([each["content"] for each in messages], chat)
        return classifier.fitted([text_of(prompt), answer], self._plain)

    def _plain(self, texts: Sequence[str]) -> Row:
        prompt, answer = texts
        if self._template:
            parts = {"{prompt}": prompt, "{answer}": answer}
            text = re.sub(r"\{prompt\}|\{answer\}", lambda at: parts[at[0]], self._template)
            return self._classifier.tokens(text)
        if self._classifier.tokenizer.sep_token is not None:
            return self._classifier.tokens(prompt, answer)
        return self._classifier.tokens(f"{prompt}\n\n{answer}")
