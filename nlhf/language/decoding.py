"""Sample answers of the policy and of its mixture with the reference in one batched loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.caches import cache_argument, choose_rows, holds_states_only, new_cache, takes
from nlhf.language.cuts import Cuts, Limits
from nlhf.language.policy import Encoded, Policy
from nlhf.mixture import mixed


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    The temperature T belongs to both policies: pi and mu are softmax(logits / T) wherever they
    are sampled or scored, so that the mixture's temperature is T as well and gradients stay
    unbiased at any T. `top_k` and `top_p` cut the mixture (after mixing); they cut the policy's
    own rows only where `truncate_own` says so, because a cut y ~ pi would bias the gradient.

    Attributes:
        max_new_tokens: an answer's largest length, >= 1, its end token included.
        temperature: T > 0.
        top_k: keep that many of the most likely tokens, >= 1.
        top_p: keep the smallest set of the most likely tokens with at least this probability, in
            (0, 1]; 1 keeps all. See `truncated` for ties.
        min_p: keep tokens with at least this share of the most likely one's probability, (0, 1].
        repetition_penalty: of tokens that the prompt or the answer has already, > 0, before the
            cuts and on the same rows as they: their log-probabilities are multiplied by it, so
            that above 1 they become rarer.
        truncate_own: cut the policy's own rows too; for answers that no gradient is made of.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    truncate_own: bool = False

    @property
    def limits(self) -> Limits:
        """The cuts."""
        return Limits(self.top_k, self.top_p, self.min_p, self.repetition_penalty)

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens={self.max_new_tokens} must be at least 1")
        if not self.temperature > 0:
            raise InputError(f"temperature={self.temperature} must be > 0")
        self.limits.check()


@dataclass(frozen=True)
class Answers:
    """Sampled answers: first the policy's own rows, then the mixture's; N in all.

    Attributes:
        tokens: [N, T], filled up after the end of text.
        mask: which of them belong to the answer, its end token included, [N, T], bool.
        ended: whether the row came to its end of text, [N].
        log_pi: log-probability of each token under pi, [N, T], zero outside of the mask; NaN for
            rows that pi was not run on (mixture weight 1).
        log_mu: the same under mu, NaN for rows that mu was not run on.
    """

    tokens: Tensor
    mask: Tensor
    ended: Tensor
    log_pi: Tensor
    log_mu: Tensor


Observer = Callable[[int, Tensor], None]


@torch.no_grad()
def decode(
    policy: Policy,
    prompts: Encoded,
    own: int,
    mixed_rows: int,
    weight: float,
    sampling: Sampling,
    uniforms: Tensor,
    *,
    observe: Observer = lambda step, log_probs: None,
    all_done: Callable[[bool], bool] = lambda done: done,
) -> Answers:
    """Sample `own` answers of pi and `mixed_rows` of the mixture for each prompt.

    At each prefix the mixture is softmax((1 - w) log pi + w log mu). pi runs on its own rows and
    on the mixture's, mu on the mixture's, each with a key-value cache of its own; prompts are run
    once each. With an adapter both are rows of one pass, which reads the base weights once. At
    w = 0 mu is not run; at w = 1 the mixture's rows are mu's alone.

    Args:
        policy: pi and mu.
        prompts: B of them.
        own: answers of pi a prompt, >= 0.
        mixed_rows: answers of the mixture a prompt, >= 0.
        weight: w in [0, 1], the reference's.
        sampling: temperature, cuts and length.
        uniforms: [B (own + mixed_rows), max_new_tokens] in [0, 1), float64; a row's numbers decide
            its answer whatever else is in the batch.
        observe: given each step and the distributions [N, V] before the cuts, as log-probs.
        all_done: told whether every row has ended, says whether to stop; processes that share a
            model stop together.

    Returns:
        Rows of pi ([B, own] flattened), then of the mixture ([B, mixed_rows] flattened).

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7, the mixture of logits.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"mixture weight {weight:g} must lie between 0 and 1")
    length, batch = sampling.max_new_tokens, len(prompts.ids)
    _check_room(policy, prompts, length)
    _check_uniforms(uniforms, batch * (own + mixed_rows), length)
    n_own, n = batch * own, batch * (own + mixed_rows)
    streams = Streams(policy, prompts, own, mixed_rows, weight, length)
    device = prompts.ids.device
    each = torch.arange(batch, device=device)
    uniforms = uniforms.to(device)
    w = torch.tensor(weight, device=device)
    tokens = torch.full((n, length), policy.pad_id, device=device)
    mask = torch.zeros(n, length, dtype=torch.bool, device=device)
    kept: list[tuple[Tensor, Tensor]] = []
    ends = torch.tensor(policy.end_ids, device=device)
    done = torch.zeros(n, dtype=torch.bool, device=device)
    logits = streams.prefill()
    rows = (each.repeat_interleave(count) for count in (own, mixed_rows))
    start = 0 if sampling.truncate_own else n_own
    cuts = Cuts(sampling.limits, prompts.rows(torch.cat(tuple(rows))[start:]), start)
    for t in range(length):
        ready = (policy.allowed(each, t) for each in logits)
        log_pi, log_mu = (_tempered(each, sampling.temperature) for each in ready)
        parts = [log_pi[:n_own]] if n_own else []
        if n > n_own:
            parts.append(_mixture(log_pi[n_own:], log_mu, w, weight))
        log_q = torch.cat(parts) if len(parts) > 1 else parts[0]
        observe(t, log_q)
        drawn = _draw(cuts(log_q), uniforms[:, t])
        cuts.saw(drawn)
        drawn = torch.where(done, policy.pad_id, drawn)
        tokens[:, t], mask[:, t] = drawn, ~done
        kept.append((_at(log_pi, drawn[: len(log_pi)]), _at(log_mu, drawn[n - len(log_mu) :])))
        done = done | torch.isin(drawn, ends) if len(ends) else done
        if t + 1 == length or all_done(bool(done.all())):
            break
        logits = streams.step(drawn)
    used = len(kept)
    mask = mask[:, :used]
    scores = (torch.stack([pair[i] for pair in kept], 1) for i in (0, 1))
    log_pi, log_mu = scores
    blank_pi = log_pi.new_full((n - len(log_pi), used), torch.nan)
    blank_mu = log_mu.new_full((n - len(log_mu), used), torch.nan)
    return Answers(
        tokens[:, :used],
        mask,
        done,
        torch.where(mask, torch.cat((log_pi, blank_pi)), 0.0),
        torch.where(mask, torch.cat((blank_mu, log_mu)), 0.0),
    )


class Streams:
    """The two models, each with a cache of its own, advanced together."""

    def __init__(
        self, policy: Policy, prompts: Encoded, own: int, mix: int, weight: float, length: int
    ) -> None:
        batch, device = len(prompts.ids), prompts.ids.device
        each = torch.arange(batch, device=device)
        own_rows, mix_rows = each.repeat_interleave(own), each.repeat_interleave(mix)
        self.rows = len(own_rows) + len(mix_rows)
        self.n_pi = len(own_rows) + (len(mix_rows) if weight < 1 else 0)
        self.n_mu = len(mix_rows) if weight > 0 else 0
        pi_rows = torch.cat((own_rows, mix_rows))[: self.n_pi]
        mu_rows = mix_rows[: self.n_mu]
        self.policy, self.joined = policy, policy.joined
        self.streams: list[_Stream] = []
        if self.joined:
            self.streams.append(_Stream(policy, prompts, pi_rows, mu_rows, length))
        else:
            none = each[:0]
            self.streams.append(_Stream(policy, prompts, pi_rows, none, length))
            self.streams.append(_Stream(policy, prompts, none, mu_rows, length))

    def prefill(self) -> tuple[Tensor, Tensor]:
        """Logits after the prompts: pi's [n_pi, V] and mu's [n_mu, V]."""
        return self._split([stream.prefill() for stream in self.streams if stream.used])

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits after one more token a row."""
        pi, mu = tokens[: self.n_pi], tokens[self.rows - self.n_mu :]
        fed = [torch.cat((pi, mu))] if self.joined else [pi, mu]
        return self._split(
            [s.step(each) for s, each in zip(self.streams, fed, strict=True) if s.used]
        )

    def _split(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        if self.joined or len(logits) == 1:
            return logits[0][: self.n_pi], logits[0][self.n_pi :]
        return logits[0], logits[1]


class _Stream:
    """A model, its cache, and the rows that it is run on: pi's, mu's, or pi's and then mu's."""

    def __init__(
        self, policy: Policy, prompts: Encoded, pi_rows: Tensor, mu_rows: Tensor, length: int
    ) -> None:
        self.policy, self.used = policy, bool(len(pi_rows) + len(mu_rows))
        batch, self.n_pi = len(prompts.ids), len(pi_rows)
        # each prompt is run once for each of the two policies
        parts = [prompts] * (bool(len(pi_rows)) + bool(len(mu_rows)))
        self.own_prompts = batch if len(pi_rows) else 0
        self.ids = torch.cat([each.ids for each in parts]) if parts else prompts.ids[:0]
        self.prompt_mask = torch.cat([p.mask for p in parts]) if parts else prompts.mask[:0]
        self.index = torch.cat((pi_rows, mu_rows + self.own_prompts))
        self.model = policy.model
        if not self.n_pi and policy.reference is not None:
            self.model = policy.reference
        self.cache_name = cache_argument(self.model)
        self.keeps = {"logits_to_keep": 1} if takes(self.model, "logits_to_keep") else {}
        # models that have no such argument take the places from the mask
        self.places = takes(self.model, "position_ids")
        self.padded = not self.places or not bool(prompts.mask.all())
        self.length = length

    def prefill(self) -> Tensor:
        """Run the prompts, then give every row its prompt's cache."""
        self.cache = new_cache(self.model.config)
        mask, width = self.prompt_mask, self.ids.shape[1]
        positions = (mask.long().cumsum(1) - 1).clamp_min(0)
        logits = self._run(self.ids, mask, positions, self.own_prompts)
        choose_rows(self.cache, self.index)
        # padding is left out of the states already
        self.padded = self.padded and not holds_states_only(self.cache)
        full = mask.new_ones(len(self.index), width + self.length)
        full[:, :width] = mask[self.index]
        self.mask, self.width = full, width
        self.position = positions[self.index, -1:]
        return logits[self.index]

    def step(self, tokens: Tensor) -> Tensor:
        """Run one more token a row."""
        self.width += 1
        self.position = self.position + 1
        return self._run(tokens[:, None], self.mask[:, : self.width], self.position, self.n_pi)

    def _run(self, ids: Tensor, mask: Tensor, positions: Tensor, own: int) -> Tensor:
        inputs: dict[str, Any] = {
            "input_ids": ids,
            **({"position_ids": positions} if self.places else {}),
            self.cache_name: self.cache,
            "use_cache": True,
            **self.keeps,
        }
        if self.padded:
            inputs["attention_mask"] = mask
        if own == len(ids):
            out = self.policy.forward_alone(inputs)
        elif own == 0:
            out = self.policy.forward(inputs, reference=True)
        else:
            out = self.policy.forward_rows(inputs, own)
        return out.logits[:, -1]


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return torch.log_softmax(logits / temperature, -1)


def _mixture(log_pi: Tensor, log_mu: Tensor, w: Tensor, weight: float) -> Tensor:
    if weight == 0:
        return log_pi
    return log_mu if weight == 1 else mixed(log_pi, log_mu, w.to(log_pi.dtype))


def _at(log_probs: Tensor, tokens: Tensor) -> Tensor:
    return log_probs.gather(1, tokens[:, None])[:, 0]


def _draw(log_q: Tensor, u: Tensor) -> Tensor:
    """Invert the distribution function F at u in [0, 1): the first token with F > u F(last).

    One uniform number a row decides its token. F grows only where a token has a probability, and
    u F(last) is below F(last) even when it is rounded, since u is at most 1 - 2^-53. So a token of
    probability zero is never drawn: not the first for u = 0, and not the last for the largest u.

    Args:
        log_q: [N, V], not necessarily normalised.
        u: [N], float64.
    """
    cumulative = log_q.double().exp().cumsum(-1)
    target = u[:, None] * cumulative[:, -1:]
    # a model that diverged gives NaN: its loss says so, an index outside would not
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=log_q.shape[1] - 1)


def _check_room(policy: Policy, prompts: Encoded, length: int) -> None:
    longest = int(prompts.mask.sum(1).max())
    if policy.context is not None and longest + length > policy.context:
        raise InputError(
            f"a prompt of {longest} tokens and an answer of {length} do not fit into the "
            f"{policy.context} tokens of {policy.name}; shorten the prompt or max_new_tokens"
        )


def _check_uniforms(uniforms: Tensor, rows: int, length: int) -> None:
    if uniforms.shape != (rows, length):
        raise InputError(f"uniforms of shape {list(uniforms.shape)} must be [{rows}, {length}]")
    low, high = (uniforms.min(), uniforms.max()) if uniforms.numel() else (0.0, 0.0)
    if not (low >= 0 and high < 1):
        raise InputError(f"uniforms from {low:g} to {high:g} must lie in [0, 1)")


def draw_uniforms(rows: int, length: int, generator: torch.Generator) -> Tensor:
    """The numbers that decide answers, [rows, length], float64, on the CPU."""
    return torch.rand(rows, length, generator=generator, dtype=torch.float64)
