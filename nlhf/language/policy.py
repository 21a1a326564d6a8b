"""A language model as a policy, with the reference that regularises it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nlhf.errors import InputError
from nlhf.language.adapter_dropout import AdapterDropout, make_droppable, switched_on
from nlhf.language.adapter_rows import AdapterRows
from nlhf.language.double import ready
from nlhf.language.prompts import Prompt, text_of


@dataclass(frozen=True)
class Encoded:
    """Prompts as tokens, padded on the left so that all answers start in the same column.

    Attributes:
        ids: [B, P].
        mask: which tokens belong to the prompt, [B, P], bool.
    """

    ids: Tensor
    mask: Tensor

    def rows(self, index: Tensor) -> Encoded:
        """Select rows; a row may be repeated."""
        return Encoded(self.ids[index], self.mask[index])


@dataclass
class Policy:
    """A causal language model pi, its frozen reference mu, and the conversion of text to tokens.

    With full weights the reference is a second model. With LoRA it is the same model with the
    adapter off, so the base weights are stored only once.

    Attributes:
        model: pi; a Hugging Face causal language model, or a peft model around one.
        reference: mu; None if it is `model` with its adapter off, or if no reference is needed.
        tokenizer: tokenizer of both.
        end_ids: tokens that end an answer; if empty, every answer has full length.
        pad_id: token used as padding; the models never attend to it.
        context: largest number of tokens of prompt and answer together; None without a limit.
        name: name in messages and in the model card.
        chat: whether plain-text prompts are put into the tokenizer's chat template.
        shortest: number of tokens of an answer before which it may not end, under both pi and mu.
        prompt_room: largest number of tokens of a prompt; None for any number.
        keeps: which part of a longer prompt is kept, "end" or "start"; "refuse" raises an error.
        forward_model: `model` in a wrapper that exchanges gradients between processes, if any.
        checkpointed: layers that are recomputed for a gradient, see `checkpointing`.
        dropout: drops inputs of the adapter in passes of `model` that need a gradient, and in no
            other; None drops nothing.
        joined: whether pi and mu can be rows of one pass: the policy is an adapter, and a test
            showed that one pass gives the same result as two.
        shares: whether several tokens can follow a cached prompt in one pass.
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
    dropout: AdapterDropout | None = None
    joined: bool = field(default=False, init=False)
    shares: bool = field(default=True, init=False)
    _adapter: AdapterRows | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        # No dropout of the model's own: sampling, scores and gradients use the same pi.
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
        """A one-line remark for the user on how this policy is sampled; None if there is none."""
        if self.joined or self.reference is not None or not self.has_adapter:
            return None
        return (
            f"{self.name}: the adapter cannot be on for some rows of a pass and off for others, so "
            "policy and reference run one after the other; answers are the same, sampling is slower"
        )

    @property
    def device(self) -> torch.device:
        """The device on which the model computes."""
        return next(self.model.parameters()).device

    @property
    def vocabulary(self) -> int:
        """The size of the model's vocabulary."""
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
        """The trainable parameters by name."""
        named = self.model.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def forward(self, inputs: Mapping[str, Any], reference: bool = False) -> Any:
        """Run pi, or mu without a gradient; return the model's output."""
        if not reference:
            with ready(self.model), self._for_gradient():
                return (self.forward_model or self.model)(**inputs)
        with torch.no_grad(), self.adapter_off(), ready(self.reference or self.model):
            return (self.reference or self.model)(**inputs)

    def _for_gradient(self) -> ExitStack:
        """What a pass that needs a gradient has beside others."""
        stack = ExitStack()
        if torch.is_grad_enabled():
            # transformers only checkpoints in training mode, and looks at no submodule for it
            stack.enter_context(switched_on(self.checkpointed))
            if self.dropout is not None:
                stack.enter_context(self.dropout.on(self.device))
        return stack

    def forward_alone(self, inputs: Mapping[str, Any]) -> Any:
        """Run pi without the wrapper that exchanges gradients."""
        with ready(self.model):
            return self.model(**inputs)

    def forward_rows(self, inputs: Mapping[str, Any], own: int) -> Any:
        """Run pi on the first `own` rows and mu on the others in one pass over the base weights.

        Only valid if the two are `joined`.
        """
        assert self._adapter is not None
        assert self.joined
        with ready(self.model), self._adapter.first(own, inputs["input_ids"]):
            return self.model(**inputs)

    def allowed(self, logits: Tensor, place: int) -> Tensor:
        """Logits [..., V] of an answer's token `place`; tokens that end it too early get -inf."""
        if place >= self.shortest or not self.end_ids:
            return logits
        ends = torch.tensor(self.end_ids, device=logits.device)
        return logits.index_fill(-1, ends, -torch.inf)

    def adapter_off(self) -> Any:
        """Within the block, an adapter has no effect."""
        model: Any = self.model
        if self.reference is not None or not self.has_adapter:
            return nullcontext()
        return model.disable_adapter()

    def drop_inputs(self, p: float, generator: torch.Generator, **processes: Any) -> None:
        """Drop inputs of the adapter in passes that need a gradient, and in no other.

        Answers, evaluations and scores without a gradient come from the whole policy. So the
        gradient is that of a policy without the dropped inputs, at answers of the whole one:
        dropout trades a bias for less overfitting.

        Args:
            p: probability in (0, 1) with which an input is zeroed.
            generator: see `AdapterDropout`.
            processes: the processes that share a step, see `AdapterDropout`; this one by default.

        Raises:
            InputError: the adapter has no inputs to drop, see `make_droppable`.
        """
        layers = make_droppable(self.model, p, self.name)
        self.dropout = AdapterDropout(layers, generator, **processes)

    @contextmanager
    def holding(self, parameters: Mapping[str, Tensor]) -> Iterator[None]:
        """Within the block, pi's trainable parameters have these values."""
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
        """Tokenize prompts, padded on the left.

        Raises:
            InputError: there is no prompt, or one is empty.
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
        """Tokenize answers, each with its end token, padded on the right.

        Returns:
            The tokens and a mask of those that belong to the answers, [N, T].

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
        """The tokens of one answer and its end token, if there is one.

        Raises:
            InputError: the answer has no tokens.
        """
        end = getattr(self.tokenizer, "eos_token_id", None)
        ends = [end] if end in self.end_ids else list(self.end_ids[:1])
        tokens = self.tokenizer(answer, add_special_tokens=False)["input_ids"] + ends
        if not tokens:
            raise InputError(f"answer {answer!r} has no tokens; give at least one word")
        return tokens

    def check_room(self, prompts: Sequence[Prompt], answer: int, source: str) -> None:
        """Raise if prompts leave no room for an answer of `answer` tokens.

        Raises:
            InputError: a prompt is empty, or it exceeds the model's context together with its
                answer.
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
        """A prompt's tokens, truncated to the room for a prompt."""
        room = self.prompt_room
        if room is None or len(tokens) <= room or self.keeps == "refuse":
            return tokens
        return tokens[-room:] if self.keeps == "end" else tokens[:room]

    def texts(self, tokens: Tensor, mask: Tensor) -> list[str]:
        """Decode answers to text, without their end tokens and special tokens.

        Args:
            tokens, mask: [N, T].
        """
        rows = [
            tuple(t for t, kept in zip(*row, strict=True) if kept and t not in self.end_ids)
            for row in zip(tokens.tolist(), mask.tolist(), strict=True)
        ]
        # toy languages produce the same answer many times
        known = {
            row: self.tokenizer.decode(list(row), skip_special_tokens=True).strip()
            for row in set(rows)
        }
        return [known[row] for row in rows]

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Tokenize one prompt, with the tokenizer's chat template if requested.

        Without a template, messages are joined by blank lines.

        Raises:
            InputError: see `encode`.
        """
        template = getattr(self.tokenizer, "chat_template", None)
        if not template or (isinstance(prompt, str) and not self.chat):
            text = text_of(prompt)  # without a template the roles are dropped
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
        except Exception as error:  # a template is a sandboxed program and can raise anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise InputError(
                f"{self.name}: its chat template fails: {reason}; mend it, or --set chat=false"
            ) from None
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def rows_of(model: Any) -> int:
    """The number of tokens in a model's vocabulary."""
    return model.get_input_embeddings().weight.shape[0]
