"""Supervised fine-tuning on people's answers before any preference; one object holds the state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.policy import Policy
from nlhf.language.prompts import Example
from nlhf.language.reading import Account
from nlhf.language.scoring import score
from nlhf.language.trainer import AbstractOptimizer, Batching


@dataclass(frozen=True)
class ExampleRecord:
    """One update, with measures taken before it; names as in TRL's SFTTrainer.

    `loss`, `mean_token_accuracy` and `entropy` are means over the completions' tokens, with `loss`
    in nats; `num_tokens` counts the tokens of prompts and completions so far.
    """

    step: int
    epoch: int
    loss: float
    mean_token_accuracy: float
    entropy: float
    num_tokens: int
    grad_norm: float
    learning_rate: float


@dataclass(frozen=True)
class HeldOutRecord:
    """Measures on held-out examples, before the first update (epoch 0) and after each epoch.

    `eval_perplexity` is exp(`eval_loss`), per token; the end token counts as one.
    """

    step: int
    epoch: int
    eval_loss: float
    eval_perplexity: float
    eval_mean_token_accuracy: float
    eval_entropy: float


def completion_loss(
    policy: Policy, examples: Sequence[Example], total: int, autocast: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of completions given their prompts, teacher forced.

        loss = - (1 / total) sum_i sum_t log pi(y_it | x_i, y_i,<t)

    The sum covers the tokens of completions and their end tokens, but no prompt tokens.

    Args:
        policy: pi.
        examples: x and y of one pass.
        total: number of tokens to average over, in all passes of a step.
        autocast: see `score`.

    Returns:
        The loss, and sums over tokens of -log pi, of correct guesses and of the entropy, [3].
    """
    prompts = policy.encode([each.prompt for each in examples])
    tokens, mask = policy.encode_answers([each.completion for each in examples])
    scores = score(policy, prompts, tokens, mask, autocast=autocast)
    negative = -scores.log_prob.sum()
    log_all = scores.log_all.detach()
    # a token that pi cannot produce has log pi = -inf and contributes nothing
    entropy = -(log_all.exp() * log_all.clamp_min(torch.finfo(log_all.dtype).min)).sum(-1)
    right = log_all.argmax(-1) == tokens
    sums = (negative.detach(), right[mask].sum(), entropy[mask].sum())
    return negative / total, torch.stack([each.double() for each in sums])


def check_room(policy: Policy, examples: Sequence[Example], source: str) -> None:
    """Raise if an example is longer than the model's context.

    Raises:
        InputError: an example is too long; `source` names its origin.
    """
    for i, each in enumerate(examples, 1):
        n_prompt = len(policy.prompt_tokens(each.prompt))
        n_completion = len(policy.answer_tokens(each.completion))
        if policy.context is not None and n_prompt + n_completion > policy.context:
            raise InputError(
                f"{source}: example {i} has {n_prompt} tokens of prompt and {n_completion} of "
                f"completion, but {policy.name} has a context of {policy.context}; shorten it or "
                "leave it out"
            )


@dataclass
class WarmStart:
    """A training in progress. Fields outside `state_dict` never change.

    Attributes:
        policy: trained in place.
        examples, held: examples to learn from, and held-out ones.
        optimizer: optimizer of the policy's trainable parameters.
        order: returns the order of `examples` in an epoch, counted from 1; deterministic.
        epochs, batching: length of the training and size of a step.
        accounts: how each file was read, by name.
        epoch, position: the epoch, and updates done in it.
        step, num_tokens: total updates and tokens so far.
        record, held_record: the latest records; None before the first.
    """

    policy: Policy
    examples: Sequence[Example]
    held: Sequence[Example]
    optimizer: AbstractOptimizer
    order: Callable[[int], Tensor]
    epochs: int
    batching: Batching
    accounts: Mapping[str, Account] = field(default_factory=dict)
    epoch: int = 1
    position: int = 0
    step: int = 0
    num_tokens: int = 0
    record: ExampleRecord | None = None
    held_record: HeldOutRecord | None = None

    @property
    def steps(self) -> int:
        """Number of updates per epoch."""
        return math.ceil(len(self.examples) / self.batch)

    @property
    def seen(self) -> int:
        """Number of examples processed, including held-out ones: the total passed to `advance`."""
        if self.step == 0:
            return 0
        here = min(self.position * self.batch, len(self.examples))
        return (self.epoch - 1) * len(self.examples) + here + self.epoch * len(self.held)

    @property
    def batch(self) -> int:
        """Number of examples per update; the last update of an epoch may have fewer."""
        return self.batching.prompts * self.batching.accumulation

    def update(self) -> ExampleRecord:
        """Take one gradient step on `completion_loss`.

        Raises:
            FloatingPointError: the loss is NaN or infinite.
        """
        start = self.position * self.batch
        numbers = self.order(self.epoch)[start : start + self.batch].tolist()
        # group similar lengths: less padding, same result
        chosen = sorted((self.examples[i] for i in numbers), key=_length)
        total = self._tokens(chosen)
        trainable = self.policy.trainable()
        for parameter in trainable.values():
            parameter.grad = None
        sums = torch.zeros(3, dtype=torch.float64)
        for part in self._passes(chosen):
            loss, measured = completion_loss(self.policy, part, total, self.batching.autocast)
            loss.backward()
            sums += measured.cpu()
        self._check(float(sums[0]) / total)
        updates = {}
        for name, parameter in trainable.items():
            grad = parameter.grad
            updates[name] = torch.zeros_like(parameter) if grad is None else -grad
            parameter.grad = None
        rate = self.optimizer.learning_rate
        norm = float(torch.stack([u.norm().double() for u in updates.values()]).norm())
        self.optimizer.step(updates)
        self.step, self.position = self.step + 1, self.position + 1
        self.num_tokens += total + sum(len(self.policy.prompt_tokens(e.prompt)) for e in chosen)
        loss, accuracy, entropy = (sums / total).tolist()
        self.record = ExampleRecord(
            self.step, self.epoch, loss, accuracy, entropy, self.num_tokens, norm, rate
        )
        return self.record

    @torch.no_grad()
    def judge(self, epoch: int, advance: Callable[[int], None]) -> HeldOutRecord:
        """Measure the policy on the held-out examples.

        Args:
            epoch: number of completed epochs.
            advance: called with the number of examples in each pass.

        Raises:
            FloatingPointError: the loss is NaN or infinite.
        """
        ordered = sorted(self.held, key=_length)
        total, sums = self._tokens(ordered), torch.zeros(3, dtype=torch.float64)
        for part in self._passes(ordered):
            sums += completion_loss(self.policy, part, total, self.batching.autocast)[1].cpu()
            advance(len(part))
        loss, accuracy, entropy = (sums / total).tolist()
        self._check(loss)
        perplexity = math.exp(min(loss, 700.0))
        self.held_record = HeldOutRecord(self.step, epoch, loss, perplexity, accuracy, entropy)
        return self.held_record

    def state_dict(self) -> dict[str, Any]:
        """The state needed for a bitwise-identical continuation: tensors and plain values."""
        records = {name: getattr(self, name) for name in ("record", "held_record")}
        drops = self.policy.dropout
        return {
            **({} if drops is None else {"dropout": drops.state()}),
            **{name: getattr(self, name) for name in _NUMBERS},
            **{name: None if each is None else vars(each) for name, each in records.items()},
            "parameters": {name: p.detach() for name, p in self.policy.trainable().items()},
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in _NUMBERS:
            setattr(self, name, int(state[name]))
        self.record = None if state["record"] is None else ExampleRecord(**state["record"])
        held = state["held_record"]
        self.held_record = None if held is None else HeldOutRecord(**held)
        self.policy.load(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.policy.dropout is not None:
            self.policy.dropout.load(state["dropout"])

    def _passes(self, examples: Sequence[Example]) -> list[Sequence[Example]]:
        size = self.batching.prompts
        return [examples[i : i + size] for i in range(0, len(examples), size)]

    def _tokens(self, examples: Sequence[Example]) -> int:
        return sum(len(self.policy.answer_tokens(each.completion)) for each in examples)

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {self.step + 1}; use a smaller learning rate "
                "(--set optimizer.learning_rate=...)"
            )


_NUMBERS = ("epoch", "position", "step", "num_tokens")


def _length(example: Example) -> int:
    texts = (example.prompt,) if isinstance(example.prompt, str) else example.prompt
    characters = sum(len(each if isinstance(each, str) else each["content"]) for each in texts)
    return characters + len(example.completion)


def learn(
    state: WarmStart,
    *,
    on_step: Callable[[ExampleRecord], None] = lambda record: None,
    on_held: Callable[[HeldOutRecord], None] = lambda record: None,
    after: Callable[[], None] = lambda: None,
    advance: Callable[[int], None] = lambda examples: None,
) -> None:
    """Maximise the likelihood of the completions over epochs of shuffled examples.

    Args:
        state: updated in place; may be at any point of the training.
        on_step: called with the record of every update.
        on_held: called with the held-out measures, if anything is held out.
        after: called after every complete update, at the end of an epoch after its record.
        advance: called with the number of examples in each update and in each held-out pass.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    if state.step == 0 and state.held:
        on_held(state.judge(0, advance))
    while state.epoch <= state.epochs:
        while state.position < state.steps:
            left = len(state.examples) - state.position * state.batch
            on_step(state.update())
            advance(min(state.batch, left))
            if state.position < state.steps:
                after()
        if state.held:
            on_held(state.judge(state.epoch, advance))
        state.epoch, state.position = state.epoch + 1, 0
        after()
