"""Log-probabilities of given answers, from one teacher-forced pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nlhf.language.caches import cache_argument, choose_rows, holds_keys_only, new_cache, takes
from nlhf.language.policy import Encoded, Policy

SHARED = 256
"""Number of tokens that a shared prompt must save for a second pass to pay off."""


@dataclass(frozen=True)
class Scores:
    """The results of a teacher-forced pass.

    Attributes:
        log_prob: log-probability of each token of the answers, [N, T], zero outside the mask.
        log_all: the full distributions over tokens, [N, T, V], as log-probabilities.
        hidden: the model's last hidden states at those positions, [N, T, H], if requested.
    """

    log_prob: Tensor
    log_all: Tensor
    hidden: Tensor | None = None


def score(
    policy: Policy,
    prompts: Encoded,
    tokens: Tensor,
    mask: Tensor,
    *,
    index: Tensor | None = None,
    temperature: float = 1.0,
    reference: bool = False,
    hidden: bool = False,
    autocast: torch.dtype | None = None,
    share: bool | None = None,
) -> Scores:
    """Score answers under pi (with a gradient, unless gradients are off) or under mu (without).

    Args:
        policy: pi and mu.
        prompts: B prompts.
        tokens: the answers, [N, T].
        mask: which tokens belong to them, [N, T].
        index: the index of each answer's prompt, [N]; by default one answer per prompt, B = N.
        temperature: temperature of both policies, see `Sampling`.
        reference: score under mu.
        hidden: also return the last hidden states, without a gradient.
        autocast: dtype of the pass; log-probabilities are float32 or float64.
        share: run each prompt once for all its answers; None decides by the tokens that this saves
            and by whether the model allows it.
    """
    length = tokens.shape[1]
    if index is not None and not (
        _worth_sharing(policy, prompts, index) if share is None else share
    ):
        prompts, index = prompts.rows(index), None
    with torch.autocast(tokens.device.type, autocast or torch.bfloat16, autocast is not None):
        if index is None:
            ids = torch.cat((prompts.ids, tokens[:, :-1]), 1)
            attention_mask = torch.cat((prompts.mask, mask[:, :-1]), 1)
            parts = [_run(policy, ids, attention_mask, length, reference, hidden)]
        else:
            parts = _shared(policy, prompts, index, tokens, mask, reference, hidden)
    logits, states = (torch.cat(each, 1) for each in zip(*parts, strict=True))
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if policy.shortest:
        early = (policy.allowed(logits[:, t], t) for t in range(length))
        logits = torch.stack(tuple(early), 1)
    log_all = torch.log_softmax(logits / temperature, -1)
    log_prob = log_all.gather(-1, tokens[..., None])[..., 0]
    return Scores(torch.where(mask, log_prob, 0.0), log_all, states.detach() if hidden else None)


def _worth_sharing(policy: Policy, prompts: Encoded, index: Tensor) -> bool:
    saved = (len(index) - len(prompts.ids)) * prompts.ids.shape[1]
    return saved >= SHARED and policy.shares and holds_keys_only(new_cache(policy.config))


def _shared(
    policy: Policy,
    prompts: Encoded,
    index: Tensor,
    tokens: Tensor,
    mask: Tensor,
    reference: bool,
    hidden: bool,
) -> list[tuple[Tensor, Tensor]]:
    """Run each prompt once, then its answers on copies of its keys and values."""
    cache = new_cache(policy.config)
    logits, states = _run(policy, prompts.ids, prompts.mask, 1, reference, hidden, cache)
    parts = [(logits[index], states[index])]
    if tokens.shape[1] > 1:
        choose_rows(cache, index)
        attention_mask = torch.cat((prompts.mask[index], mask[:, :-1]), 1)
        answers = (
            policy,
            tokens[:, :-1],
            attention_mask,
            tokens.shape[1] - 1,
            reference,
            hidden,
            cache,
        )
        parts.append(_run(*answers))
    return parts


def _run(
    policy: Policy,
    ids: Tensor,
    attention_mask: Tensor,
    keep: int,
    reference: bool,
    hidden: bool,
    cache: object = None,
) -> tuple[Tensor, Tensor]:
    """Logits and hidden states at the last positions; without states, the logits twice."""
    inputs: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": attention_mask,
        "use_cache": cache is not None,
    }
    if cache is not None:
        inputs[cache_argument(policy.model)] = cache
    if takes(policy.model, "position_ids"):
        positions = (attention_mask.long().cumsum(1) - 1).clamp_min(0)
        inputs["position_ids"] = positions[:, -ids.shape[1] :]
    if takes(policy.model, "logits_to_keep"):
        inputs["logits_to_keep"] = keep
    if hidden:
        inputs["output_hidden_states"] = True
    out = policy.forward(inputs, reference)
    logits = out.logits[:, -keep:]
    return logits, out.hidden_states[-1][:, -keep:] if hidden else logits
