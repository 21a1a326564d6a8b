"""Sample answers of the policy and of its mixture with the reference in one batched loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.cuts import Cuts, Limits
from nlhf.language.policy import Encoded, Policy
from nlhf.language.streams import Streams
from nlhf.mixture import mixed


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    The temperature T belongs to both policies: pi and mu are softmax(logits / T) wherever they
    are sampled or scored, so that the mixture's temperature is T as well and gradients stay
    unbiased at any T. The cuts (`top_k`, `top_p`, `min_p`, `repetition_penalty`) act on the mixture
    (after mixing); they cut the policy's own rows only where `truncate_own` says so, because a cut
    y ~ pi would bias the gradient.

    Attributes:
        max_new_tokens: largest number of tokens of an answer, >= 1, including its end token.
        temperature: sampling temperature, > 0.
        top_k: number of most likely tokens to keep, >= 1.
        top_p: probability of the smallest set of most likely tokens to keep, in (0, 1]; 1 keeps
            all. See `truncated` for ties.
        min_p: smallest probability of tokens to keep, as a fraction of that of the most likely
            token, in (0, 1].
        repetition_penalty: the factor, > 0, by which the log-probabilities of tokens that already
            occur in the prompt or the answer are multiplied; above 1 they become rarer. It applies
            before truncation, and to the same rows.
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

    @property
    def cutting_own(self) -> Sampling:
        """The same, with cuts of the policy's own rows too; itself if there are no cuts."""
        return replace(self, truncate_own=True) if self.limits.cut else self

    @property
    def whole(self) -> Sampling:
        """The same without cuts."""
        return replace(self, top_k=None, top_p=None, min_p=None, repetition_penalty=1.0)

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens={self.max_new_tokens} must be at least 1")
        if not self.temperature > 0:
            raise InputError(f"temperature={self.temperature} must be > 0")
        self.limits.check()


@dataclass(frozen=True)
class Answers:
    """Sampled answers: the policy's own rows first, then the mixture's; N in total.

    Attributes:
        tokens: [N, T], padded after the end of text.
        mask: which tokens belong to the answer, including its end token, [N, T], bool.
        ended: whether the row reached its end of text, [N].
        log_pi: log-probability of each token under pi, [N, T], zero outside the mask; NaN for rows
            on which pi was not run (mixture weight 1).
        log_mu: the same under mu; NaN for rows on which mu was not run.
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
    """Sample `own` answers of pi and `mixed_rows` answers of the mixture for each prompt.

    At each prefix the mixture is softmax((1 - w) log pi + w log mu). pi runs on its own rows and on
    the mixture's rows; mu runs on the mixture's rows. Each has its own key-value cache and reads
    each prompt once. With an adapter, both are rows of one pass, which reads the base weights once.
    At w = 0 mu is not run; at w = 1 the mixture's rows come from mu alone.

    Args:
        policy: pi and mu.
        prompts: B prompts.
        own: answers of pi per prompt, >= 0.
        mixed_rows: answers of the mixture per prompt, >= 0.
        weight: w in [0, 1], the weight of the reference.
        sampling: temperature, cuts and length.
        uniforms: [B (own + mixed_rows), max_new_tokens] in [0, 1), float64. A row's numbers
            determine its answer, whatever else is in the batch.
        observe: called at each step with the distributions [N, V] before the cuts, as log-probs.
        all_done: called with whether every row has ended; returns whether to stop. Processes that
            share a model stop together.

    Returns:
        Rows of pi ([B, own] flattened), then rows of the mixture ([B, mixed_rows] flattened).

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7, the mixture of logits.
    """
    check_draws(policy, prompts, own + mixed_rows, weight, sampling, uniforms)
    length, batch = sampling.max_new_tokens, len(prompts.ids)
    n_own, n = batch * own, batch * (own + mixed_rows)
    streams = Streams(policy, prompts, own, mixed_rows, weight, length)
    device = prompts.ids.device
    uniforms = uniforms.to(device)
    w = torch.tensor(weight, device=device)
    tokens = torch.full((n, length), policy.pad_id, device=device)
    mask = torch.zeros(n, length, dtype=torch.bool, device=device)
    kept: list[tuple[Tensor, Tensor]] = []
    ends = torch.tensor(policy.end_ids, device=device)
    done = torch.zeros(n, dtype=torch.bool, device=device)
    logits = streams.prefill()
    cut = rows_of_prompts(prompts, own, mixed_rows, sampling)
    cuts = Cuts(sampling.limits, cut, n - len(cut.ids))
    for t in range(length):
        ready = (policy.allowed(each, t) for each in logits)
        log_pi, log_mu = (tempered(each, sampling.temperature) for each in ready)
        log_q = drawn_from(log_pi, log_mu, n_own, n, w, weight)
        observe(t, log_q)
        drawn = draw_tokens(cuts(log_q), uniforms[:, t])
        cuts.mark_seen(drawn)
        drawn = torch.where(done, policy.pad_id, drawn)
        tokens[:, t], mask[:, t] = drawn, ~done
        kept.append((at(log_pi, drawn[: len(log_pi)]), at(log_mu, drawn[n - len(log_mu) :])))
        done = done | torch.isin(drawn, ends) if len(ends) else done
        if t + 1 == length or all_done(bool(done.all())):
            break
        logits = streams.step(drawn)
    log_pi, log_mu = (torch.stack([pair[i] for pair in kept], 1) for i in (0, 1))
    return answers(tokens, mask, done, log_pi, log_mu)


def rows_of_prompts(prompts: Encoded, own: int, mixed_rows: int, sampling: Sampling) -> Encoded:
    """The prompts of the rows that may be truncated, which are the last rows."""
    each = torch.arange(len(prompts.ids), device=prompts.ids.device)
    rows = torch.cat([each.repeat_interleave(count) for count in (own, mixed_rows)])
    start = 0 if sampling.truncate_own else own * len(each)
    return prompts.rows(rows[start:])


def answers(tokens: Tensor, mask: Tensor, done: Tensor, log_pi: Tensor, log_mu: Tensor) -> Answers:
    """Assemble answers up to the scored length: pi's scores [n_pi, T] and mu's [n_mu, T]."""
    n, used = len(tokens), log_pi.shape[1]
    mask = mask[:, :used]
    blank_pi = log_pi.new_full((n - len(log_pi), used), torch.nan)
    blank_mu = log_mu.new_full((n - len(log_mu), used), torch.nan)
    return Answers(
        tokens[:, :used],
        mask,
        done,
        torch.where(mask, torch.cat((log_pi, blank_pi)), 0.0),
        torch.where(mask, torch.cat((blank_mu, log_mu)), 0.0),
    )


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at a temperature, in float32 or higher, [..., V]."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return torch.log_softmax(logits / temperature, -1)


def drawn_from(
    log_pi: Tensor, log_mu: Tensor, own: int, n: int, w: Tensor, weight: float
) -> Tensor:
    """The distributions of all n rows before the cuts: pi's own, then the mixture's, [n, V].

    Args:
        log_pi: [n_pi, V].
        log_mu: [n_mu, V].
        own: number of pi's own rows.
        n: number of rows.
        w: weight of the reference in the mixture.
        weight: the same weight on the host if it is 0 or 1; otherwise any value in between.
    """
    parts = [log_pi[:own]] if own else []
    if n > own:
        parts.append(_mixture(log_pi[own:], log_mu, w, weight))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _mixture(log_pi: Tensor, log_mu: Tensor, w: Tensor, weight: float) -> Tensor:
    if weight == 0:
        return log_pi
    return log_mu if weight == 1 else mixed(log_pi, log_mu, w.to(log_pi.dtype))


def at(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """The tokens' log-probabilities, [N]."""
    return log_probs.gather(1, tokens[:, None])[:, 0]


def draw_tokens(log_q: Tensor, u: Tensor) -> Tensor:
    """Invert the distribution function F at u in [0, 1): the first token with F > u F(last).

    One uniform number per row determines its token. F grows only at tokens of positive probability.
    u F(last) is below F(last) even after rounding, since u is at most 1 - 2^-53. So a token of
    probability zero is never drawn: not the first for u = 0, and not the last for the largest u.

    Args:
        log_q: [N, V], not necessarily normalised.
        u: [N], float64.
    """
    cumulative = log_q.double().exp().cumsum(-1)
    target = u[:, None] * cumulative[:, -1:]
    # a diverged model gives NaN: keep the index valid, its loss will report it
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=log_q.shape[1] - 1)


def check_draws(
    policy: Policy,
    prompts: Encoded,
    rows: int,
    weight: float,
    sampling: Sampling,
    uniforms: Tensor,
) -> None:
    """Validate the arguments of `decode`; `rows` is the number of answers per prompt.

    Raises:
        InputError: an invalid weight, no room for prompt and answer, or invalid random numbers.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"mixture weight {weight:g} must lie between 0 and 1")
    length = sampling.max_new_tokens
    _check_room(policy, prompts, length)
    _check_uniforms(uniforms, len(prompts.ids) * rows, length)


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
    """The numbers that determine the answers, [rows, length], float64, on the CPU."""
    return torch.rand(rows, length, generator=generator, dtype=torch.float64)
