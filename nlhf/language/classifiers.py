"""Sequence classifiers that read a prompt and its answers: rewards and pair comparisons."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.loading import CLASSIFIER, load_pretrained, quiet
from nlhf.language.model_folder import ADAPTER
from nlhf.language.prompts import Prompt

Row = Mapping[str, Sequence[int]]
"""A tokenizer's output for one text: `input_ids`, and `token_type_ids` where the model uses them.
"""


class Classifier:
    """A model of transformers' AutoModelForSequenceClassification and its tokenizer."""

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int | None = None,
        tokens_a_pass: int = 8192,
    ) -> None:
        """Wrap a model and its tokenizer.

        Args:
            name: name of the model in messages.
            model: returns `logits`, [B, outputs].
            tokenizer: its tokenizer.
            max_length: largest number of tokens per row; the model's context if None.
            tokens_a_pass: largest number of tokens per forward pass, >= 1.

        Raises:
            InputError: `max_length` exceeds the model's context.
        """
        self.name, self.model, self.tokenizer = name, model.eval().requires_grad_(False), tokenizer
        context = _context(model, tokenizer)
        if max_length is not None and context is not None and max_length > context:
            raise InputError(f"{name}: max_length={max_length} exceeds its context of {context}")
        self.limit = max_length or context
        self.outputs = int(model.config.num_labels)
        self.cut = 0
        """Number of rows that exceeded the limit."""
        self._tokens_a_pass = tokens_a_pass
        # the model locates a row's last token by the pad token, which no real token may equal
        self._text_config = model.config.get_text_config()
        self._pad = self._text_config.pad_token_id
        if self._pad is None:
            self._text_config.pad_token_id = -1
        known = getattr(tokenizer, "model_input_names", ())
        self._types = "token_type_ids" in known and getattr(model.config, "type_vocab_size", 0) > 1

    @property
    def labels(self) -> list[str]:
        """Names of the outputs in the model's config."""
        names = self.model.config.id2label
        return [str(names.get(i, i)) for i in range(self.outputs)]

    def logits(self, rows: Sequence[Row]) -> Tensor:
        """The model's outputs for rows, [B, outputs], float64; each as if the row were alone."""
        out = torch.empty(len(rows), self.outputs, dtype=torch.float64)
        device = next(self.model.parameters()).device
        with torch.no_grad():
            for numbers in self._passes([len(row["input_ids"]) for row in rows]):
                inputs = self._padded([rows[i] for i in numbers])
                inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
                out[numbers] = self.model(**inputs).logits.double().cpu()
        return out

    def tokens(self, text: str, second: str | None = None, special: bool = True) -> Row:
        """Tokenize a text, or two texts as a pair, without truncation."""
        given = (text,) if second is None else (text, second)
        found = self.tokenizer(*given, add_special_tokens=special, verbose=False)
        names = ("input_ids", "token_type_ids") if self._types else ("input_ids",)
        return {name: found[name] for name in names if name in found}

    def fitted(self, texts: Sequence[str], encode: Callable[[Sequence[str]], Row]) -> Row:
        """Encode texts; cut the longest one in its middle until they fit.

        Raises:
            InputError: not even empty texts fit, or the texts have no tokens.
        """
        texts, cut = list(texts), False
        while True:
            row = encode(texts)
            length = len(row["input_ids"])
            if not length:
                raise InputError(f"{self.name}: a prompt and answer without tokens; leave it out")
            if self.limit is None or length <= self.limit:
                self.cut += cut
                return row
            longest = max(range(len(texts)), key=lambda i: len(texts[i]))
            text, cut = texts[longest], True
            if not text:
                raise InputError(
                    f"{self.name}: {self.limit} tokens leave no room beside its template; raise "
                    "max_length"
                )
            # at the usual length of a token, at least this many characters are too many
            over = math.ceil((length - self.limit) * sum(map(len, texts)) / length)
            left = max(len(text) - max(over, 1), 0)
            texts[longest] = text[: (left + 1) // 2] + text[len(text) - left // 2 :]

    def chat(self, messages: Sequence[Mapping[str, str]]) -> Row:
        """Tokenize messages with the tokenizer's chat template.

        Raises:
            InputError: the template fails.
        """
        try:
            text = self.tokenizer.apply_chat_template(list(messages), tokenize=False)
        except Exception as error:  # a template is a sandboxed program and can raise anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise InputError(f"{self.name}: its chat template fails: {reason}; mend it") from None
        return self.tokens(text, special=False)

    def _passes(self, lengths: Sequence[int]) -> list[list[int]]:
        """Group row numbers into passes of few tokens. Rows of a pass have one length unless the
        model can distinguish tokens from padding."""
        found: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            fits = found and lengths[i] * (len(found[-1]) + 1) <= self._tokens_a_pass
            if not fits or (self._pad is None and lengths[found[-1][-1]] != lengths[i]):
                found.append([])
            found[-1].append(i)
        return found

    def _padded(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Stack rows into tensors, padded on the right."""
        longest = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self._pad or 0, "token_type_ids": 0}
        inputs = {
            name: torch.tensor([[*row[name], *[fill[name]] * (longest - len(row[name]))]
                                for row in rows])
            for name in rows[0]
        }  # fmt: skip
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        inputs["attention_mask"] = (torch.arange(longest) < lengths[:, None]).long()
        return inputs


class Reading(Protocol):
    """How a judge's classifier reads its input."""

    @property
    def precision(self) -> str:
        """Precision of the weights."""
        ...

    @property
    def max_length(self) -> int | None:
        """Largest number of tokens per row, see `Classifier`."""
        ...

    @property
    def tokens_a_pass(self) -> int:
        """Largest number of tokens per forward pass."""
        ...


def load_classifier(spec: str, device: torch.device | str, how: Reading) -> Classifier:
    """Load a classifier and its tokenizer; see `load_pretrained`.

    Raises:
        InputError: it cannot be loaded.
    """
    if os.path.isfile(os.path.join(spec, ADAPTER)):
        raise InputError(f"{spec}: an adapter; merge it into its base and save that")
    with quiet():
        model, tokenizer = load_pretrained(spec, getattr(torch, how.precision), CLASSIFIER)
    return Classifier(
        spec,
        model.to(device),
        tokenizer,
        max_length=how.max_length,
        tokens_a_pass=how.tokens_a_pass,
    )


def messages_of(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as messages; a plain text becomes a user message."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(message) for message in prompt]


def _context(model: Any, tokenizer: Any) -> int | None:
    config = model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    if getattr(config, "model_type", "") in _OFFSET and limits[0]:
        # these models number positions from pad_token_id + 1
        limits[0] -= (config.pad_token_id or 0) + 1
    known = [int(limit) for limit in limits if limit and 0 < limit < 2**20]
    return min(known, default=None)


_OFFSET = {
    "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "mpnet", "data2vec-text",
    "roberta-prelayernorm", "xmod", "ibert", "layoutlm",
}  # fmt: skip
