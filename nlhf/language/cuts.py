"""Truncation of token distributions: unlikely tokens are cut, repeated ones penalised."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.policy import Encoded


@dataclass(frozen=True)
class Limits:
    """Limits on which tokens may be drawn; see `Sampling`."""

    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def check(self) -> None:
        """Raise if a value is out of range."""
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k={self.top_k} must be at least 1; leave it out to keep all")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p={self.top_p} must lie in (0, 1]")
        if self.min_p is not None and not 0 < self.min_p <= 1:
            raise InputError(f"min_p={self.min_p} must lie in (0, 1]")
        if not self.repetition_penalty > 0:
            raise InputError(f"repetition_penalty={self.repetition_penalty} must be > 0")

    @property
    def cut(self) -> bool:
        """Whether any token may be cut or penalised."""
        given = (self.top_k, self.top_p, self.min_p)
        return given != (None, None, None) or self.repetition_penalty != 1


class Cuts:
    """Applies the limits to rows from `start` on, token by token."""

    def __init__(self, limits: Limits, prompts: Encoded, start: int) -> None:
        """Take the prompts of the rows to be truncated."""
        self._limits, self._start = limits, start
        self._works = limits.cut and len(prompts.ids) > 0
        self._prompts = prompts
        self._seen: Tensor | None = None

    def __call__(self, log_q: Tensor) -> Tensor:
        """The truncated distributions [N, V] as unnormalised log-probabilities."""
        if not self._works:
            return log_q
        rows = log_q[self._start :]
        if self._limits.repetition_penalty != 1:
            if self._seen is None:
                self._seen = seen_in(self._prompts, log_q.shape[1])
            rows = torch.where(self._seen, rows * self._limits.repetition_penalty, rows)
        limits = self._limits
        rows = truncated(rows, limits.top_k, limits.top_p, limits.min_p)
        return torch.cat((log_q[: self._start], rows))

    def restart(self, prompts: Encoded) -> None:
        """Switch to as many other prompts; the tensor of seen tokens is updated in place."""
        self._prompts = prompts
        if self._seen is not None:
            self._seen.copy_(seen_in(prompts, self._seen.shape[1]))

    def mark_seen(self, drawn: Tensor) -> None:
        """Mark the tokens just drawn in each row as seen, [N]."""
        if self._seen is not None:
            self._seen.scatter_(1, drawn[self._start :, None], True)


def seen_in(prompts: Encoded, vocabulary: int) -> Tensor:
    """Which tokens occur in each prompt, [N, V]."""
    seen = torch.zeros(len(prompts.ids), vocabulary, dtype=torch.bool, device=prompts.ids.device)
    # replace padding by the prompt's last token, which is never padding
    ids = torch.where(prompts.mask, prompts.ids, prompts.ids[:, -1:])
    return seen.scatter_(1, ids, True)


def truncated(
    log_q: Tensor, top_k: int | None, top_p: float | None, min_p: float | None = None
) -> Tensor:
    """Keep the most likely tokens and set the others to -inf; unnormalised, [N, V].

    First keep the `top_k` most likely tokens. Of these, renormalised, keep the smallest set of most
    likely tokens whose probability reaches `top_p`. Of these, keep tokens with at least `min_p`
    times the largest probability. Ties are broken by the lower token id, so exactly `top_k` tokens
    are kept and the set is the same on every device. A set that misses `top_p` only by rounding (16
    eps of the dtype) counts as reaching it. At least one token is always kept, and top_p = 1 keeps
    all of them, however unlikely.
    """
    if top_k is None and top_p is None:
        return _likely(log_q, min_p)
    ordered, order = torch.sort(log_q, dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[:, top_k:] = -torch.inf
    if top_p is not None and top_p < 1:
        p = torch.softmax(ordered.double(), -1)
        enough = top_p * (1 - 16 * torch.finfo(log_q.dtype).eps)
        before = p.cumsum(-1) - p
        ordered = ordered.masked_fill(before >= enough, -torch.inf)
    return _likely(torch.full_like(log_q, -torch.inf).scatter(-1, order, ordered), min_p)


def _likely(log_q: Tensor, min_p: float | None) -> Tensor:
    if min_p is None:
        return log_q
    least = log_q.double().amax(-1, keepdim=True) + math.log(min_p)
    slack = 16 * torch.finfo(log_q.dtype).eps  # keep tokens that miss the limit only by rounding
    return log_q.masked_fill(log_q.double() < least - slack, -torch.inf)
