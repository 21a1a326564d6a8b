"""A language model as a policy, beside the reference that it may not leave too far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.adapter_rows import AdapterRows
from nlhf.language.double import ready
from nlhf.language.prompts import Prompt, text_of


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
        shortest: tokens of an answer before which no token may end it, under pi and mu alike.
        prompt_room: most tokens of a prompt, None for any number.
        keeps: of a longer prompt its "end" or its "start"; or "refuse".
        forward_model: `model` in a wrapper that exchanges gradients between processes, if any.
        checkpointed: layers that are computed again for a gradient, see `checkpointing`.
        joined: whether pi and mu may be rows of one pass: the policy is an adapter, and one pass
            was found to give what two give.
        shares: whether several tokens may follow a cached prompt in one pass.
    """

    model: nn.Module
    reference: nn.Module | None
    tokenizer: Any
    end_ids: tuple[int, ...]
    pad_id: int
    context: int | None = None
    name: str = "policy"
    chat: bool = True
    shortest: int = 0
    prompt_room: int | None = None
    keeps: str = "refuse"
    forward_model: nn.Module | None = None
    checkpointed: tuple[nn.Module, ...] = ()
    joined: bool = field(default=False, init=False)
    shares: bool = field(default=True, init=False)
    _adapter: AdapterRows | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        # No dropout anywhere: sampling, scores and gradients are of one and the same pi.
        self.model.eval()
        if self.reference is not None:
            self.reference.eval().requires_grad_(False)
            self._check_vocabularies(self.reference)
        elif self.has_adapter:
            self._adapter = AdapterRows(self.model)
            self.joined = self._adapter.agree()

    @property
    def has_adapter(self) -> bool:
        """Whether the policy is an adapter on the reference's weights."""
        return hasattr(self.model, "disable_adapter")

    @property
    def remark(self) -> str | None:
        """What a user should know of how this policy is sampled, in one line; None if nothing."""
        if self.joined or self.reference is not None or not self.has_adapter:
            return None
        return (
            f"{self.name}: the adapter cannot be on for some rows of a pass and off for others, so "
            "policy and reference run one after the other; answers are the same, sampling is slower"
        )

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        return rows_of(self.model)

    @property
    def config(self) -> Any:
        """The model's Hugging Face config."""
        model: Any = self.model
        return model.config

    def _check_vocabularies(self, reference: nn.Module) -> None:
        if self.vocabulary != rows_of(reference):
            raise InputError(
                f"{self.name} knows {self.vocabulary} tokens and its reference "
                f"{rows_of(reference)}; the two must have one tokenizer, and as many rows in their "
                "embeddings"
            )

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        named = self.model.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def forward(self, inputs: Mapping[str, Any], reference: bool = False) -> Any:
        """Run pi, or mu without a gradient; give what the model gives."""
        if not reference:
            makes_gradient = torch.is_grad_enabled() and self.checkpointed
            again = _recomputing(self.checkpointed) if makes_gradient else nullcontext()
            with ready(self.model), again:
                return (self.forward_model or self.model)(**inputs)
        with torch.no_grad(), self.adapter_off(), ready(self.reference or self.model):
            return (self.reference or self.model)(**inputs)

    def forward_alone(self, inputs: Mapping[str, Any]) -> Any:
        """Run pi without the wrapper that exchanges gradients."""
        with ready(self.model):
            return self.model(**inputs)

    def forward_rows(self, inputs: Mapping[str, Any], own: int) -> Any:
        """Run pi on the first `own` rows and mu on the others in one pass over the base weights.

        Only where the two are `joined`.
        """
        assert self._adapter is not None
        assert self.joined
        with ready(self.model), self._adapter.first(own, inputs["input_ids"]):
            return self.model(**inputs)

    def allowed(self, logits: Tensor, place: int) -> Tensor:
        """Logits [..., V] of an answer's token number `place`, none that ends it too early."""
        if place >= self.shortest or not self.end_ids:
            return logits
        ends = torch.tensor(self.end_ids, device=logits.device)
        return logits.index_fill(-1, ends, -torch.inf)

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
            InputError: no prompt, or an empty one.
        """
        if not prompts:
            raise InputError("there are no prompts; give at least one")
        rows = [self.shortened(self.prompt_tokens(prompt)) for prompt in prompts]
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
            if self.prompt_room is not None and length > self.prompt_room:
                if self.keeps == "refuse":
                    raise InputError(
                        f"{source}: prompt {i} has {length} tokens, and max_prompt_tokens="
                        f"{self.prompt_room}; shorten it, or --set truncate=left (or right)"
                    )
                length = self.prompt_room
            if self.context is not None and length + answer > self.context:
                raise InputError(
                    f"{source}: prompt {i} has {length} tokens and its answer up to {answer}, but "
                    f"{self.name} has a context of {self.context}; shorten the prompt, or "
                    "--set generation.max_new_tokens=..."
                )

    def shortened(self, tokens: list[int]) -> list[int]:
        """A prompt's tokens as far as there is room for them."""
        room = self.prompt_room
        if room is None or len(tokens) <= room or self.keeps == "refuse":
            return tokens
        return tokens[-room:] if self.keeps == "end" else tokens[:room]

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

        Messages that no template puts together are their texts, a blank line between two.

        Raises:
            InputError: see `encode`.
        """
        template = getattr(self.tokenizer, "chat_template", None)
        if not template or (isinstance(prompt, str) and not self.chat):
            text = text_of(prompt)  # without a template nothing says who speaks
            tokens = self.tokenizer(text)["input_ids"]
            if not tokens:
                raise InputError(f"prompt {text!r} has no tokens; give at least one word")
            return tokens
        if isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
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


def rows_of(model: Any) -> int:
    """How many tokens a model knows."""
    return model.get_input_embeddings().weight.shape[0]


@contextmanager
def _recomputing(layers: tuple[nn.Module, ...]) -> Iterator[None]:
    """While the block runs these layers checkpoint, as transformers has it: where they train.

    Only they are told so; their parts, dropout among them, are not.
    """
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer in layers:
            layer.training = False
