"""A language model as a policy, beside the reference that it may not leave too far."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.prompts import Prompt


@dataclass(frozen=True)
class Encoded:
    """Prompts as tokens, padded on the left so that all answers begin in one column.

    Attributes:
        ids: [B, P].
        mask: which of them are prompt, [B, P], bool.
    """

    ids: Tensor
    mask: Tensor

    def rows(self, index: Tensor) -> Encoded:
        """Some of the rows, or some of them several times."""
        return Encoded(self.ids[index], self.mask[index])


@dataclass
class Policy:
    """A causal language model pi, its frozen reference mu, and how text becomes tokens.

    With full weights the reference is a second model. With LoRA it is the same model with the
    adapter off, so that the base weights are there once.

    Attributes:
        model: pi; a Hugging Face causal language model, or a peft model around one.
        reference: mu; None where it is `model` with its adapter off, or where nobody asks for it.
        tokenizer: of both.
        end_ids: tokens that end an answer; none where every answer has its full length.
        pad_id: what stands where there is no token; never looked at.
        context: most tokens of prompt and answer together, None where there is no limit.
        name: how messages and the model card call it.
        chat: whether a prompt that is plain text is put into the tokenizer's chat template.
    """

    model: nn.Module
    reference: nn.Module | None
    tokenizer: Any
    end_ids: tuple[int, ...]
    pad_id: int
    context: int | None = None
    name: str = "policy"
    chat: bool = True
    forward_model: nn.Module | None = None
    _adapter: AdapterRows | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        # No dropout anywhere: sampling, scores and gradients are of one and the same pi.
        self.model.eval()
        if self.reference is not None:
            self.reference.eval().requires_grad_(False)
        elif self.has_adapter:
            self._adapter = AdapterRows(self.model)

    @property
    def has_adapter(self) -> bool:
        """Whether the policy is an adapter on the reference's weights."""
        return hasattr(self.model, "disable_adapter")

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @property
    def config(self) -> Any:
        """The model's Hugging Face config."""
        model: Any = self.model
        return model.config

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        named = self.model.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def forward(self, inputs: Mapping[str, Any], reference: bool = False) -> Any:
        """Run pi, or mu without a gradient; give what the model gives."""
        if not reference:
            return (self.forward_model or self.model)(**inputs)
        with torch.no_grad(), self.adapter_off():
            return (self.reference or self.model)(**inputs)

    def forward_rows(self, inputs: Mapping[str, Any], own: int) -> Any:
        """Run pi on the first `own` rows and mu on the others in one pass over the base weights.

        Only where the policy is an adapter.
        """
        assert self._adapter is not None
        with self._adapter.first(own):
            return self.model(**inputs)

    def adapter_off(self) -> Any:
        """While the block runs, an adapter has no effect."""
        model: Any = self.model
        if self.reference is not None or not self.has_adapter:
            return nullcontext()
        return model.disable_adapter()

    @contextmanager
    def holding(self, parameters: Mapping[str, Tensor]) -> Iterator[None]:
        """While the block runs, pi has these values of its trainable parameters."""
        own = self.trainable()
        kept = {name: parameter.detach().clone() for name, parameter in own.items()}
        try:
            self.load(parameters)
            yield
        finally:
            self.load(kept)

    @torch.no_grad()
    def load(self, parameters: Mapping[str, Tensor]) -> None:
        """Copy values into the trainable parameters."""
        for name, parameter in self.trainable().items():
            parameter.copy_(parameters[name])

    def encode(self, prompts: Sequence[Prompt]) -> Encoded:
        """Tokens of prompts, padded on the left.

        Raises:
            InputError: no prompt, an empty one, or messages without a chat template.
        """
        if not prompts:
            raise InputError("there are no prompts; give at least one")
        rows = [self.prompt_tokens(prompt) for prompt in prompts]
        longest = max(len(row) for row in rows)
        ids = torch.full((len(rows), longest), self.pad_id)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, longest - len(row) :] = torch.tensor(row)
            mask[i, longest - len(row) :] = True
        return Encoded(ids.to(self.device), mask.to(self.device))

    def encode_answers(self, answers: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens of answers, each with the token that ends it, padded on the right.

        Returns:
            The tokens and which of them belong to the answers, [N, T].

        Raises:
            InputError: an answer has no tokens.
        """
        rows = [self.answer_tokens(answer) for answer in answers]
        longest = max(len(row) for row in rows)
        tokens = torch.full((len(rows), longest), self.pad_id)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        return tokens.to(self.device), mask.to(self.device)

    def answer_tokens(self, answer: str) -> list[int]:
        """The tokens of one answer and the one that ends it, if there is such a token.

        Raises:
            InputError: there are none.
        """
        end = getattr(self.tokenizer, "eos_token_id", None)
        ends = [end] if end in self.end_ids else list(self.end_ids[:1])
        tokens = self.tokenizer(answer, add_special_tokens=False)["input_ids"] + ends
        if not tokens:
            raise InputError(f"answer {answer!r} has no tokens; give at least one word")
        return tokens

    def check_room(self, prompts: Sequence[Prompt], answer: int, source: str) -> None:
        """Refuse prompts that leave no room for an answer of so many tokens.

        Raises:
            InputError: a prompt is empty, or exceeds the model's context with its answer.
        """
        for i, prompt in enumerate(prompts, 1):
            length = len(self.prompt_tokens(prompt))
            if self.context is not None and length + answer > self.context:
                raise InputError(
                    f"{source}: prompt {i} has {length} tokens and its answer up to {answer}, but "
                    f"{self.name} has a context of {self.context}; shorten the prompt, or "
                    "--set generation.max_new_tokens=..."
                )

    def texts(self, tokens: Tensor, mask: Tensor) -> list[str]:
        """Answers as text, without the token that ends them and without special tokens.

        Args:
            tokens, mask: [N, T].
        """
        rows = [
            tuple(t for t, kept in zip(*row, strict=True) if kept and t not in self.end_ids)
            for row in zip(tokens.tolist(), mask.tolist(), strict=True)
        ]
        # toy languages give the same answer many times
        known = {
            row: self.tokenizer.decode(list(row), skip_special_tokens=True).strip()
            for row in set(rows)
        }
        return [known[row] for row in rows]

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """The tokens of one prompt, in the tokenizer's chat template where that is wanted.

        Raises:
            InputError: see `encode`.
        """
        template = getattr(self.tokenizer, "chat_template", None)
        if isinstance(prompt, str):
            if self.chat and template:
                prompt = [{"role": "user", "content": prompt}]
            else:
                tokens = self.tokenizer(prompt)["input_ids"]
                if not tokens:
                    raise InputError(f"prompt {prompt!r} has no tokens; give at least one word")
                return tokens
        if not template:
            raise InputError(
                f"{self.name} has no chat template, but a prompt is a list of messages; give the "
                "prompt as text, or use a model with a chat template"
            )
        try:
            text = self.tokenizer.apply_chat_template(
                list(prompt), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is a program, in a sandbox
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise InputError(
                f"{self.name}: its chat template fails: {said}; mend it, or --set chat=false"
            ) from None
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


class AdapterRows:
    """Lets a LoRA adapter act on the first rows of a batch only.

    The adapter adds B A x; where A x is zero it adds nothing. So pi and mu are two groups of rows
    of one forward pass.
    """

    def __init__(self, model: nn.Module) -> None:
        """Hook into every adapter layer of the model."""
        self._own: int | None = None
        for module in model.modules():
            down = getattr(module, "lora_A", None)
            if isinstance(down, nn.ModuleDict):
                for layer in down.values():
                    layer.register_forward_hook(self._silence)

    @contextmanager
    def first(self, own: int) -> Iterator[None]:
        """While the block runs, rows from `own` on are the base model's."""
        self._own = own
        try:
            yield
        finally:
            self._own = None

    def _silence(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if self._own is None or self._own >= len(output):
            return output
        silent = torch.zeros_like(output[self._own :])
        return torch.cat((output[: self._own], silent))


def takes(model: nn.Module, argument: str) -> bool:
    """Whether the model's forward has an argument of that name."""
    inner: Any = model
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return argument in inspect.signature(inner.forward).parameters


def cache_argument(model: nn.Module) -> str:
    """The name by which the model's forward takes a key-value cache."""
    return "cache" if takes(model, "cache") else "past_key_values"
