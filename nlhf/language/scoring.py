"""Log-probabilities of given answers, by one teacher-forced pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nlhf.language.policy import Encoded, Policy, takes


@dataclass(frozen=True)
class Scores:
    """What a teacher-forced pass gives.

    Attributes:
        log_prob: of each token of the answers, [N, T], zero outside of the mask.
        log_all: the distributions that the tokens came from, [N, T, V], as log-probabilities.
        hidden: the model's last hidden states at those places, [N, T, H], if asked for.
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
    temperature: float = 1.0,
    reference: bool = False,
    hidden: bool = False,
    autocast: torch.dtype | None = None,
) -> Scores:
    """Score answers under pi (with a gradient, unless it is off) or under mu (without).

    Args:
        policy: pi and mu.
        prompts: one a row, N.
        tokens: the answers, [N, T].
        mask: which tokens belong to them, [N, T].
        temperature: of both policies, see `Sampling`.
        reference: score under mu.
        hidden: give the last hidden states too, without a gradient.
        autocast: compute the pass in this dtype; log-probabilities are of float32 or float64.
    """
    length = tokens.shape[1]
    seen = torch.cat((prompts.mask, mask[:, :-1]), 1)
    inputs: dict[str, Any] = {
        "input_ids": torch.cat((prompts.ids, tokens[:, :-1]), 1),
        "attention_mask": seen,
        "use_cache": False,
    }
    if takes(policy.model, "position_ids"):
        inputs["position_ids"] = (seen.long().cumsum(1) - 1).clamp_min(0)
    if takes(policy.model, "logits_to_keep"):
        inputs["logits_to_keep"] = length
    if hidden:
        inputs["output_hidden_states"] = True
    with torch.autocast(tokens.device.type, autocast or torch.bfloat16, autocast is not None):
        out = policy.forward(inputs, reference)
    logits = out.logits[:, -length:]
    logits = logits if logits.dtype == torch.float64 else logits.float()
    log_all = torch.log_softmax(logits / temperature, -1)
    log_prob = log_all.gather(-1, tokens[..., None])[..., 0]
    states = out.hidden_states[-1][:, -length:].detach() if hidden else None
    return Scores(torch.where(mask, log_prob, 0.0), log_all, states)
