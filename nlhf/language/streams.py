"""Policy and reference as they read prompts and then token by token, each with its own cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nlhf.language.caches import cache_argument, choose_rows, holds_states_only, new_cache, takes
from nlhf.language.policy import Encoded, Policy


@dataclass(frozen=True)
class Rows:
    """Which of n rows each model runs on: pi on the first n_pi, mu on the last n_mu.

    Attributes:
        joined: whether both run in one pass, pi's rows first.
    """

    n: int
    n_pi: int
    n_mu: int
    joined: bool

    def fed(self, tokens: Tensor) -> list[Tensor]:
        """The part of the rows' tokens [n] for each pass; no pass is empty."""
        pi, mu = tokens[: self.n_pi], tokens[self.n - self.n_mu :]
        parts = [torch.cat((pi, mu))] if self.joined else [pi, mu]
        return [part for part in parts if len(part)]

    def split(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Pi's logits [n_pi, V] and mu's [n_mu, V], from the logits of the passes."""
        if len(logits) == 1:
            return logits[0][: self.n_pi], logits[0][self.n_pi :]
        return logits[0], logits[1]


class Streams:
    """The two models, each with its own cache, advanced together."""

    def __init__(
        self, policy: Policy, prompts: Encoded, own: int, mix: int, weight: float, length: int
    ) -> None:
        batch, device = len(prompts.ids), prompts.ids.device
        each = torch.arange(batch, device=device)
        own_rows, mix_rows = each.repeat_interleave(own), each.repeat_interleave(mix)
        n_pi = len(own_rows) + (len(mix_rows) if weight < 1 else 0)
        n_mu = len(mix_rows) if weight > 0 else 0
        self.rows = Rows(len(own_rows) + len(mix_rows), n_pi, n_mu, policy.joined)
        pi_rows = torch.cat((own_rows, mix_rows))[:n_pi]
        mu_rows = mix_rows[:n_mu]
        none = each[:0]
        parts = [(pi_rows, mu_rows)] if policy.joined else [(pi_rows, none), (none, mu_rows)]
        self.streams = [
            Stream(policy, prompts, pi, mu, length) for pi, mu in parts if len(pi) + len(mu)
        ]

    def prefill(self) -> tuple[Tensor, Tensor]:
        """Logits after the prompts: pi's [n_pi, V] and mu's [n_mu, V]."""
        return self.rows.split([stream.prefill() for stream in self.streams])

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits after one more token per row."""
        fed = zip(self.streams, self.rows.fed(tokens), strict=True)
        return self.rows.split([stream.step(each) for stream, each in fed])


class Pass:
    """Runs a model on rows with a cache: as pi, as mu, or as both at once."""

    def __init__(self, policy: Policy, reference: bool) -> None:
        """Take pi, or the model for rows that all belong to mu."""
        own_model = reference and policy.reference is not None
        self.policy = policy
        self.model: Any = policy.reference if own_model else policy.model
        self.cache_name = cache_argument(self.model)
        self.keeps = {"logits_to_keep": 1} if takes(self.model, "logits_to_keep") else {}
        # models without this argument infer positions from the mask
        self.places = takes(self.model, "position_ids")

    def __call__(
        self, ids: Tensor, mask: Tensor | None, positions: Tensor, own: int, cache: Any
    ) -> Tensor:
        """Logits at the last position [rows, V]; the first `own` rows are pi's, the others mu's."""
        inputs: dict[str, Any] = {
            "input_ids": ids,
            **({"position_ids": positions} if self.places else {}),
            self.cache_name: cache,
            "use_cache": True,
            **self.keeps,
        }
        if mask is not None:
            inputs["attention_mask"] = mask
        if own == len(ids):
            out = self.policy.forward_alone(inputs)
        elif own == 0:
            out = self.policy.forward(inputs, reference=True)
        else:
            out = self.policy.forward_rows(inputs, own)
        return out.logits[:, -1]


class Stream:
    """A model, its cache, and its rows: pi's, mu's, or pi's followed by mu's."""

    def __init__(
        self, policy: Policy, prompts: Encoded, pi_rows: Tensor, mu_rows: Tensor, length: int
    ) -> None:
        batch, self.n_pi = len(prompts.ids), len(pi_rows)
        # each prompt runs once for each of the two policies
        parts = [prompts] * (bool(len(pi_rows)) + bool(len(mu_rows)))
        self.own_prompts = batch if len(pi_rows) else 0
        self.ids = torch.cat([each.ids for each in parts])
        self.prompt_mask = torch.cat([each.mask for each in parts])
        self.index = torch.cat((pi_rows, mu_rows + self.own_prompts))
        self.run = Pass(policy, reference=not self.n_pi)
        self.padded = not self.run.places or not bool(prompts.mask.all())
        self.length = length

    def read(self) -> Tensor:
        """Run the prompts; return the logits after each, its cache and its last position."""
        self.cache = new_cache(self.run.model.config)
        mask = self.prompt_mask
        positions = (mask.long().cumsum(1) - 1).clamp_min(0)
        given = mask if self.padded else None
        logits = self.run(self.ids, given, positions, self.own_prompts, self.cache)
        self.width, self.last = self.ids.shape[1], positions[:, -1:]
        return logits

    def prefill(self) -> Tensor:
        """Run the prompts, then copy each prompt's cache to its rows."""
        logits = self.read()
        choose_rows(self.cache, self.index)
        # the states already exclude padding
        self.padded = self.padded and not holds_states_only(self.cache)
        full = self.prompt_mask.new_ones(len(self.index), self.width + self.length)
        full[:, : self.width] = self.prompt_mask[self.index]
        self.mask, self.position = full, self.last[self.index]
        return logits[self.index]

    def step(self, tokens: Tensor) -> Tensor:
        """Run one more token per row."""
        self.width += 1
        self.position = self.position + 1
        mask = self.mask[:, : self.width] if self.padded else None
        return self.run(tokens[:, None], mask, self.position, self.n_pi, self.cache)
