"""What is left of a distribution over tokens when unlikely and repeated ones are cut."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.policy import Encoded


@dataclass(frozen=True)
class Limits:
    """Which tokens are cut; see `Sampling`."""

    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def check(self) -> None:
        """Refuse what is out of range."""
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
        """Whether any token may be cut or made rarer."""
        given = (self.top_k, self.top_p, self.min_p)
        return given != (None, None, None) or self.repetition_penalty != 1


class Cuts:
    """Cuts the rows from `start` on, one token after another."""

    def __init__(self, limits: Limits, prompts: Encoded, start: int) -> None:
        """Take the prompts of the rows that are cut."""
        self._limits, self._start = limits, start
        self._works = limits.cut and len(prompts.ids) > 0
        self._prompts = prompts
        self._seen: Tensor | None = None

    def __call__(self, log_q: Tensor) -> Tensor:
        """What may be drawn of [N, V], as log-probabilities that are not normalised."""
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
        """Take other prompts, as many; what is counted of tokens stays where it is in memory."""
        self._prompts = prompts
        if self._seen is not None:
            self._seen.copy_(seen_in(prompts, self._seen.shape[1]))

    def saw(self, drawn: Tensor) -> None:
        """Count the tokens of all rows as seen, [N]."""
        if self._seen is not None:
            self._seen.scatter_(1, drawn[self._start :, None], True)


def seen_in(prompts: Encoded, vocabulary: int) -> Tensor:
    """Which tokens each prompt has, [N, V]."""
    seen = torch.zeros(len(prompts.ids), vocabulary, dtype=torch.bool, device=prompts.ids.device)
    # a padded place stands for the prompt's last token, which is never padding
    ids = torch.where(prompts.mask, prompts.ids, prompts.ids[:, -1:])
    return seen.scatter_(1, ids, True)


def truncated(
    log_q: Tensor, top_k: int | None, top_p: float | None, min_p: float | None = None
) -> Tensor:
    """The most likely tokens, the others at -inf, not normalised, [N, V].

    First the `top_k` most likely; of these, normalised, the smallest set of the most likely whose
    probability reaches `top_p`; of these, what has at least `min_p` of the most likely one's
    probability. Of equally likely tokens the one with the smaller number is taken
    first, so that exactly `top_k` are kept and the set is the same everywhere. A set that misses
    `top_p` by rounding only (16 eps of the dtype) reaches it. One token is always kept, and
    top_p = 1 leaves all of them, however unlikely.
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
    slack = 16 * torch.finfo(log_q.dtype).eps  # what misses by rounding only is kept
    return log_q.masked_fill(log_q.double() < least - slack, -torch.inf)
