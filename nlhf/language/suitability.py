"""Test on a few tokens, at loading, whether batching changes a model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.caches import holds_keys_only, new_cache
from nlhf.language.policy import Encoded, Policy
from nlhf.language.scoring import score
from nlhf.language.streams import Streams

PROMPT, ANSWER = 7, 3
COARSE = (torch.bfloat16, torch.float16)
# norms and softmax are float32 even where weights are float64
SHARE = {torch.float64: 1e-5, torch.float32: 3e-4, torch.bfloat16: 0.1, torch.float16: 0.1}


@torch.no_grad()
def check_suitable(policy: Policy) -> None:
    """Reject a model whose batched sampling or scoring differs from its row-by-row outputs.

    Two prompts, one of them padded on the left, run through decoding and scoring, and one by one
    through plain passes without cache or padding. If only passes of several tokens after a cache
    are wrong, `policy.shares` becomes False; scoring then runs each prompt once per answer.

    Raises:
        InputError: the model attends to later tokens, it has no language model head, or caching or
            padding changes its outputs.
    """
    prompts, answers, index = tokens_to_try(policy)
    mask = torch.ones_like(answers, dtype=torch.bool)
    alone, first = (
        _tried(policy, "a plain pass", lambda n=n: _alone(policy, prompts, answers, n))
        for n in (ANSWER, 1)
    )
    if not bool(torch.isfinite(alone).all()):
        return  # its loss will report it
    dtype = next(policy.model.parameters()).dtype
    # tolerance: rounding, plus a share of the difference between distinct outputs
    most = 2e-6 + SHARE.get(dtype, 3e-4) * float(apart(alone[0], alone[1]).max())

    def differ(found: Tensor, expected: Tensor) -> bool:
        off = apart(found, expected)
        largest = off.mean() if dtype in COARSE else off.max()
        return not float(largest) <= most  # written so that NaN counts as large

    if differ(first, alone[:, :1]):
        raise _refused(policy, "it looks ahead: a token's probability depends on later tokens")
    rows = answers[index], mask[index]
    padded = _tried(
        policy, "left padding", lambda: score(policy, prompts.rows(index), *rows).log_all
    )
    if differ(padded, alone[index]):
        raise _refused(policy, "left padding changes its probabilities")
    decoded = _tried(policy, "its cache", lambda: _decoded(policy, prompts, rows[0]))
    if differ(decoded, alone[index]):
        raise _refused(policy, "its cache changes its probabilities")
    try:
        policy.shares = holds_keys_only(new_cache(policy.config)) and not differ(
            score(policy, prompts, *rows, index=index, share=True).log_all, alone[index]
        )
    except Exception:  # few other uses need several tokens after a cache
        policy.shares = False


def _tried(policy: Policy, name: str, way: Callable[[], Tensor]) -> Tensor:
    try:
        return way()
    except Exception as error:  # third-party models can raise anything
        raise _refused(policy, f"{name} makes it fail: {_reason_of(error)}") from None


def tokens_to_try(policy: Policy) -> tuple[Encoded, Tensor, Tensor]:
    """Two prompts, an answer to each, and the prompt index of each of four rows."""
    special = {policy.pad_id, *policy.end_ids}
    rows = policy.vocabulary
    plain = [t for t in range(min(rows, 64)) if t not in special or rows < 8]
    length = min(PROMPT, max((policy.context or PROMPT + ANSWER) - ANSWER, 1))
    each = [plain[(5 * i + i * i) % len(plain)] for i in range(2 * (length + ANSWER))]
    drawn = torch.tensor(each, device=policy.device).reshape(2, -1)
    ids, answers = drawn[:, :length].clone(), drawn[:, length:]
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, : length // 2] = False
    ids[~mask] = policy.pad_id
    return Encoded(ids, mask), answers, torch.tensor([0, 0, 1, 1], device=policy.device)


def _alone(policy: Policy, prompts: Encoded, answers: Tensor, length: int) -> Tensor:
    """Log-probabilities at the first positions of the answers, [2, length, V], one row per pass."""
    rows = []
    for ids, mask, answer in zip(prompts.ids, prompts.mask, answers, strict=True):
        row = torch.cat((ids[mask], answer[: length - 1]))
        logits = policy.forward_alone({"input_ids": row[None], "use_cache": False}).logits
        rows.append(log_probs(logits[0, -length:]))
    return torch.stack(rows)


def _decoded(policy: Policy, prompts: Encoded, answers: Tensor) -> Tensor:
    """The same from decoding two answers per prompt, token by token."""
    streams = Streams(policy, prompts, 2, 0, 0.0, answers.shape[1])
    logits = [streams.prefill()[0]]
    logits += [streams.step(tokens)[0] for tokens in answers[:, :-1].T]
    return log_probs(torch.stack(logits, 1))


def log_probs(logits: Tensor) -> Tensor:
    """Log-probabilities of logits, in float32 or higher."""
    return torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), -1)


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Total variation distance at each position."""
    return (a.exp() - b.exp()).abs().sum(-1) / 2


def _reason_of(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _refused(policy: Policy, reason: str) -> InputError:
    model: Any = policy.model
    kind = type(model.get_base_model() if policy.has_adapter else model).__name__
    return InputError(
        f"model={policy.name!r} ({kind}) cannot be a policy: {reason}; use a decoder whose answers "
        "do not depend on their batch, such as Llama, Qwen, Gemma, Mistral, GPT-2 or OPT"
    )
