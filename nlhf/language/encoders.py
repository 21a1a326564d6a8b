"""From texts to features: hashed words or a transformer's hidden states."""

from __future__ import annotations

import itertools
import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.extras import need
from nlhf.language.loading import find_model, quiet
from nlhf.language.merging import merged
from nlhf.language.similarity import words

HASHED = "hashed"
Segments = tuple[str, ...]
"""The texts that are read together: the prompt, then one or two answers."""

TOKENS_A_PASS = 8192


class AbstractEncoder(nn.Module, ABC):
    """Turns a prompt and its answers into one vector per text; all texts are read together.

    Attributes:
        width: number of features per text.
    """

    width: int

    @abstractmethod
    def forward(self, rows: Sequence[Segments]) -> Tensor:
        """Features [B, S, width] of rows of S texts each."""

    @abstractmethod
    def passes(self, rows: Sequence[Segments]) -> list[list[int]]:
        """Group the row numbers into passes of suitable size; each row is in exactly one pass."""

    @abstractmethod
    def reads(self, row: Segments) -> Hashable:
        """What is read of a row; rows with the same value have the same features."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings as JSON values, "kind" first."""

    def save(self, folder: Path) -> None:
        """Save to a folder what the settings do not contain."""


class HashedEncoder(AbstractEncoder):
    """Words and word pairs hashed into a fixed number of counts: no model, no download.

    Each text gives a unit vector of signed log(1 + count), and the logarithm of its length.

    Source: Weinberger et al. 2009 (arXiv 0902.2206).
    """

    def __init__(self, buckets: int = 512) -> None:
        """Set the number of buckets, >= 1."""
        super().__init__()
        if buckets < 1:
            raise InputError(f"buckets={buckets} must be at least 1")
        self.buckets, self.width = buckets, buckets + 1

    def forward(self, rows: Sequence[Segments]) -> Tensor:
        """Features [B, S, buckets + 1]."""
        texts = {text: None for row in rows for text in row}
        found = dict(zip(texts, self._vectors(list(texts)), strict=True))
        return torch.stack([torch.stack([found[text] for text in row]) for row in rows])

    def passes(self, rows: Sequence[Segments]) -> list[list[int]]:
        """Passes with few enough rows to keep tensors small."""
        return [list(range(i, min(i + 512, len(rows)))) for i in range(0, len(rows), 512)]

    def reads(self, row: Segments) -> Hashable:
        """The words of each text, in order."""
        return tuple(tuple(words(text)) for text in row)

    def settings(self) -> dict[str, Any]:
        """The number of buckets."""
        return {"kind": HASHED, "buckets": self.buckets}

    def _vectors(self, texts: Sequence[str]) -> Tensor:
        out = torch.zeros(len(texts), self.width)
        for row, text in zip(out, texts, strict=True):
            tokens = words(text)
            for token in (*tokens, *(f"{a} {b}" for a, b in itertools.pairwise(tokens))):
                code = zlib.crc32(token.encode())
                row[code % self.buckets] += 1 if code >> 31 else -1
            counts = row[:-1]
            counts.copy_(counts.sign() * counts.abs().log1p())
            counts.div_(counts.norm().clamp_min(1e-12))
            row[-1] = math.log1p(len(tokens)) / 4
        return out


class TransformerEncoder(AbstractEncoder):
    """Mean hidden states of each text in [begin] prompt [sep] answer [sep] (answer [sep]).

    Dropout is off, also in training: a score depends on the texts alone.
    """

    def __init__(self, model: Any, tokenizer: Any, max_length: int) -> None:
        """Take a model without its head.

        Args:
            model: returns `last_hidden_state`; an encoder, or a causal model without its head.
            tokenizer: its tokenizer.
            max_length: largest number of tokens per row, >= 16. Longer rows lose tokens from the
                middle of the prompt, and from the end of an answer that exceeds its share.
        """
        super().__init__()
        self.model, self.tokenizer = model.eval(), tokenizer
        self.max_length = min(max_length, _context(model, tokenizer))
        self.width = int(model.config.hidden_size)
        begin = [tokenizer.cls_token_id, tokenizer.bos_token_id, None]
        end = [tokenizer.sep_token_id, tokenizer.eos_token_id, None]
        self._begin = [t for t in begin if t is not None][:1]
        self._end = [t for t in end if t is not None][:1] or self._tokens("\n\n")
        self._types = (
            "token_type_ids" in tokenizer.model_input_names
            and getattr(model.config, "type_vocab_size", 0) > 1
        )
        self._known: dict[Segments, tuple[list[int], list[int]]] = {}

    def forward(self, rows: Sequence[Segments]) -> Tensor:
        """Features [B, S, hidden size]."""
        encoded = [self._encode(row) for row in rows]
        longest, device = max(len(ids) for ids, _ in encoded), self._device
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        segment = torch.full((len(rows), longest), -1)
        for i, (tokens, of) in enumerate(encoded):
            ids[i, : len(tokens)] = torch.tensor(tokens)
            segment[i, : len(tokens)] = torch.tensor(of)
        ids, segment = ids.to(device), segment.to(device)
        extra = {"token_type_ids": (segment > 0).long()} if self._types else {}
        hidden = self.model(
            input_ids=ids, attention_mask=(segment >= 0).long(), **extra
        ).last_hidden_state.float()
        inside = torch.stack([segment == s for s in range(len(rows[0]))], 1).to(hidden)
        return (inside @ hidden) / inside.sum(-1, keepdim=True).clamp_min(1.0)

    def passes(self, rows: Sequence[Segments]) -> list[list[int]]:
        """Passes of rows of similar length, few enough to fit in memory."""
        lengths = [len(self._encode(row)[0]) for row in rows]
        found: list[list[int]] = []
        for i in sorted(range(len(rows)), key=lambda i: (lengths[i], rows[i])):
            if not found or lengths[i] * (len(found[-1]) + 1) > TOKENS_A_PASS:
                found.append([])
            found[-1].append(i)
        return found

    def settings(self) -> dict[str, Any]:
        """The length; the model and its tokenizer are stored separately."""
        return {"kind": "transformer", "max_length": self.max_length}

    def save(self, folder: Path) -> None:
        """Write weights, config and tokenizer with transformers; an adapter is merged."""
        model = self.model
        with quiet():
            if hasattr(model, "merge_and_unload"):
                model = merged(model)
            model.save_pretrained(folder, safe_serialization=True)
            self.tokenizer.save_pretrained(folder)

    def reads(self, row: Segments) -> Hashable:
        """The tokens of each text that remain after truncation."""
        ids, of = self._encode(row)
        return tuple(ids), tuple(of)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _encode(self, row: Segments) -> tuple[list[int], list[int]]:
        """The tokens of a row, and the number of the text each belongs to."""
        if row not in self._known:
            if len(self._known) > 100_000:
                self._known.clear()
            self._known[row] = self._encoded(row)
        return self._known[row]

    def _encoded(self, row: Segments) -> tuple[list[int], list[int]]:
        prompt, *answers = (self._tokens(text) for text in row)
        room = self.max_length - len(self._begin) - len(row) * len(self._end)
        share = room * 3 // 4 // max(len(answers), 1)
        if len(prompt) + sum(map(len, answers)) > room:
            answers = [tokens[:share] for tokens in answers]
        left = room - sum(map(len, answers))
        if len(prompt) > left:
            prompt = prompt[: (left + 1) // 2] + prompt[len(prompt) - left // 2 :]
        ids, of = list(self._begin), [0] * len(self._begin)
        for number, tokens in enumerate((prompt, *answers)):
            ids += tokens + self._end
            of += [number] * (len(tokens) + len(self._end))
        return ids, of

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def load_encoder(spec: str, max_length: int = 512, tune: str = "frozen") -> AbstractEncoder:
    """Load an encoder.

    Args:
        spec: "hashed", or a spec of `load_policy`; a folder or hub name may also be that of an
            encoder. A tiny model's weights come from torch's global generator.
        max_length: largest number of tokens of prompt and answers together.
        tune: which of its weights are trained: "frozen" (none), "lora" or "full".

    Raises:
        InputError: no such model, a missing package, or a model that cannot be trained this way.
    """
    _check_length(max_length)
    if spec == HASHED:
        if tune != "frozen":
            raise InputError(f"tune={tune!r}: hashed words have nothing to learn; use frozen")
        return HashedEncoder()
    model, tokenizer = find_model(spec, torch.float32, head=False)
    model.requires_grad_(tune == "full")
    if tune == "lora":
        peft = need("peft")
        settings = peft.LoraConfig(
            r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear"
        )
        with quiet():
            model = peft.get_peft_model(model, settings)
    return TransformerEncoder(model, tokenizer, max_length)


def saved_encoder(folder: Path, settings: dict[str, Any]) -> AbstractEncoder:
    """Load an encoder from what `settings` and `save` wrote.

    Raises:
        InputError: it is damaged or of unknown kind.
    """
    if settings.get("kind") == HASHED:
        return HashedEncoder(int(settings["buckets"]))
    if settings.get("kind") != "transformer":
        raise InputError(f"{folder}: encoder of kind {settings.get('kind')!r} is unknown")
    max_length = int(settings["max_length"])
    _check_length(max_length)
    model, tokenizer = find_model(str(folder), torch.float32, head=False)
    model.requires_grad_(False)
    return TransformerEncoder(model, tokenizer, max_length)


def _check_length(max_length: int) -> None:
    if max_length < 16:
        raise InputError(f"max_length={max_length} leaves no room for answers; use 16 or more")


def _context(model: Any, tokenizer: Any) -> int:
    limits = [getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    return int(min(limit for limit in (*limits, 2**20) if limit is not None and limit > 0))
