"""The answers of a step: sampled by an objective's plan, judged and scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nlhf.language.decoders import Decoder
from nlhf.language.decoding import Answers, Sampling
from nlhf.language.judging import AbstractJudge
from nlhf.language.objectives.base import MIXTURE, POLICY, Draw, Parameters, Plan, Sampled
from nlhf.language.objectives.base import divergence as divergence_of
from nlhf.language.parallel import AbstractGroup
from nlhf.language.policy import Encoded, Policy
from nlhf.language.prompts import Prompt
from nlhf.language.rewards import Reward
from nlhf.language.scoring import Scores, score
from nlhf.language.stopwatch import Stopwatch

Draws = Callable[[int], Tensor]
"""Draws the random numbers for `rows` answers per prompt."""


@dataclass(frozen=True)
class Follow:
    """The follower's prompts [B N] and answers."""

    prompts: list[Prompt]
    encoded: Encoded
    own: Answers


@dataclass(frozen=True)
class Batch:
    """Prompts with the scored answers and their payoffs.

    Attributes:
        preference: P(y > y'), [B, N, M] or [B, N, N]; NaN if the plan asks for rewards.
        log_other: share of the opponents' answers that ended; NaN without opponents.
        tokens: number of tokens sampled.
    """

    plan: Plan
    prompts: list[Prompt]
    encoded: Encoded
    own: Answers
    other: Answers | None
    preference: Tensor
    reward: Tensor
    log_other: float
    tokens: int
    follow: Follow | None = None


@dataclass(frozen=True)
class Rollout:
    """Defines who answers, who judges, and how answers are sampled.

    Attributes:
        judge: P(y > y' | x); None only if the plan asks for `reward` alone.
        reward: r(x, y).
        autocast: dtype of the scoring passes; None uses the dtype of the weights.
        missing_end: penalty c >= 0 on answers that have not ended. It is subtracted from the
            reward, or gives P(y > y') - c(y) + c(y'), which keeps P(y > y') + P(y' > y) = 1.
        decoder: samples the answers.
        watch: measures the time of each part.
    """

    policy: Policy
    judge: AbstractJudge | None
    reward: Reward | None
    sampling: Sampling
    group: AbstractGroup
    autocast: torch.dtype | None = None
    missing_end: float = 0.0
    decoder: Decoder = field(default_factory=Decoder)
    watch: Stopwatch = field(default_factory=Stopwatch)

    def sample(
        self,
        plan: Plan,
        prompts: list[Prompt],
        held: Mapping[str, Parameters],
        draws: Draws,
    ) -> Batch:
        """Answer prompts as planned and judge the answers."""
        encoded = self.policy.encode(prompts)
        found = self._answers(plan, encoded, held, draws)
        own = _beside(found[: len(plan.scored)], len(prompts), self.policy.pad_id)
        other = _beside(found[len(plan.scored) :], len(prompts), self.policy.pad_id)
        follow = None
        if plan.follow is not None:
            assert own is not None
            follow = self._follow(plan, prompts, own, draws)
            other = follow.own
        assert own is not None
        counted = int(own.mask.sum()) + (0 if other is None else int(other.mask.sum()))
        with self.watch.part("judging"):
            preference, reward = self._judged(plan, prompts, own, other)
        ended = float("nan")
        if other is not None and len(other.ended):
            ended = float(other.ended.double().mean())
        given = (plan, prompts, encoded, own, other, preference, reward, ended, counted)
        return Batch(*given, follow=follow)

    def score(self, batch: Batch, held: Mapping[str, Parameters], hidden: bool = False) -> Scored:
        """Teacher-forced passes over the answers."""
        with self.watch.part("scoring"):
            return self._score(batch, held, hidden)

    def _score(self, batch: Batch, held: Mapping[str, Parameters], hidden: bool) -> Scored:
        plan, count = batch.plan, len(batch.prompts)
        logs: dict[str, Tensor] = {}
        for name in plan.held:  # before building any graph: holding overwrites the policy's weights
            with self.policy.holding(held[name]), torch.no_grad():
                logs[name] = self._pass(batch.encoded, batch.own, count).log_prob
        sampled, kl, states = self._scored(
            batch.encoded, batch.own, count, batch.reward, plan.full, hidden
        )
        shape = sampled.mask.shape
        follower = None
        if batch.follow is not None:
            rows = len(batch.follow.prompts)
            wins = 1 - batch.preference.reshape(rows, -1)
            given = (batch.follow.encoded, batch.follow.own, rows, wins, plan.full, False)
            follower = self._scored(*given)[0]
        sampled = dataclasses.replace(
            sampled,
            preference=None if plan.asks == "reward" else batch.preference.to(sampled.log_pi),
            held={name: log.reshape(shape) for name, log in logs.items()},
            follower=follower,
        )
        return Scored(sampled, kl, states)

    def _answers(
        self, plan: Plan, encoded: Encoded, held: Mapping[str, Parameters], draws: Draws
    ) -> list[Answers]:
        """The answers of each draw; the policy's and the mixture's come from one loop.

        A policy's own answers are cut where they are opponents, and never where they are scored.
        """
        plans = [*plan.scored, *plan.opponents]
        uniforms = [draws(each.count) for each in plans]
        found: dict[int, Answers] = {}
        live = {i: each.policy for i, each in enumerate(plans) if each.policy in (POLICY, MIXTURE)}
        if sorted(live.values()) == [MIXTURE, POLICY]:
            (own,) = (i for i, who in live.items() if who == POLICY)
            (mix,) = (i for i, who in live.items() if who == MIXTURE)
            both = self._decoded(
                encoded,
                plans[own].count,
                plans[mix],
                torch.cat((uniforms[own], uniforms[mix])),
            )
            found[own], found[mix] = _split(both, len(uniforms[own]))
        holding = self.policy.holding
        for i, each in enumerate(plans):
            if i in found:
                continue
            if each.policy == MIXTURE:
                found[i] = self._decoded(encoded, 0, each, uniforms[i])
                continue
            here = nullcontext() if each.policy == POLICY else holding(held[each.policy])
            with here:
                cut = i >= len(plan.scored)
                found[i] = self._decoded(encoded, each.count, Draw(0), uniforms[i], cut)
        return [found[i] for i in range(len(plans))]

    def _decoded(
        self, encoded: Encoded, own: int, other: Draw, uniforms: Tensor, cut: bool = False
    ) -> Answers:
        sampling = self.sampling.cutting_own if cut else self.sampling
        settings: dict[str, Any] = {"sampling": sampling, "all_done": self.group.all}
        given = (self.policy, encoded, own, other.count, other.weight)
        with self.watch.part("decoding"):
            return self.decoder(*given, uniforms=uniforms, **settings)

    def _follow(self, plan: Plan, prompts: list[Prompt], own: Answers, draws: Draws) -> Follow:
        """Ask the follower about each answer."""
        assert plan.follow is not None
        texts = self.policy.texts(own.tokens, own.mask)
        n = len(texts) // len(prompts)
        requests = [plan.follow(prompts[i // n], text) for i, text in enumerate(texts)]
        encoded = self.policy.encode(requests)
        uniforms = draws(n * plan.followers)
        replies = self._decoded(encoded, plan.followers, Draw(0), uniforms)
        return Follow(requests, encoded, replies)

    def _pass(
        self, encoded: Encoded, own: Answers, count: int, reference: bool = False, **more: Any
    ) -> Scores:
        n = len(own.tokens) // count
        each = torch.arange(count, device=own.tokens.device).repeat_interleave(n)
        settings: dict[str, Any] = {
            "index": each,
            "temperature": self.sampling.temperature,
            "autocast": self.autocast,
        }
        given = (self.policy, encoded, own.tokens, own.mask)
        return score(*given, reference=reference, **settings, **more)

    def _scored(
        self, encoded: Encoded, own: Answers, count: int, reward: Tensor, full: bool, hidden: bool
    ) -> tuple[Sampled, Tensor, Tensor | None]:
        mu = self._pass(encoded, own, count, reference=True)
        pi = self._pass(encoded, own, count, hidden=hidden)
        shape = (count, len(own.tokens) // count, -1)
        with torch.set_grad_enabled(full):
            terms = divergence_of(pi.log_all, mu.log_all)
            whole = torch.where(own.mask, terms, 0.0).reshape(shape)
        kl = whole.detach().clamp_min(0.0).sum(-1)  # rounding may make it negative
        sampled = Sampled(
            pi.log_prob.reshape(shape),
            mu.log_prob.reshape(shape),
            own.mask.reshape(shape),
            reward.to(pi.log_prob),
            whole if full else None,
        )
        states = None if pi.hidden is None else pi.hidden.reshape(*sampled.mask.shape, -1)
        return sampled, kl, states

    def _judged(
        self, plan: Plan, prompts: list[Prompt], own: Answers, other: Answers | None
    ) -> tuple[Tensor, Tensor]:
        """P(y > y') and the payoff of each answer, [B, N]."""
        policy, count = self.policy, len(prompts)
        texts = policy.texts(own.tokens, own.mask)
        n = len(texts) // count
        if plan.asks == "reward":
            assert self.reward is not None
            repeated = [prompt for prompt in prompts for _ in range(n)]
            reward = self.reward(repeated, texts).reshape(count, n)
            reward = reward - self._cost(own, reward).reshape(count, n)
            return reward.new_full((count, n), torch.nan), reward
        assert self.judge is not None
        if plan.asks == "pairs":
            return self._judged_pairs(prompts, texts, own)
        assert other is not None
        others = policy.texts(other.tokens, other.mask)
        m = len(others) // count
        # with a follower: its answers to each answer of the leader
        each = m // n if plan.follow is not None else m
        comparisons = [
            (prompts[b], texts[b * n + i], others[b * m + (i * each if plan.follow else 0) + j])
            for b in range(count)
            for i in range(n)
            for j in range(each)
        ]
        p = self.judge(*(list(part) for part in zip(*comparisons, strict=True))).double()
        preference = p.reshape(count, n, each)
        if self.missing_end:
            mine = self._cost(own, p).reshape(count, n, 1)
            shape = (count, n, each) if plan.follow is not None else (count, 1, m)
            preference = preference - mine + self._cost(other, p).reshape(shape)
        return preference, preference.mean(-1)

    def _cost(self, answers: Answers, like: Tensor) -> Tensor:
        return self.missing_end * (~answers.ended).to(like)

    def _judged_pairs(
        self, prompts: list[Prompt], texts: list[str], own: Answers
    ) -> tuple[Tensor, Tensor]:
        assert self.judge is not None
        count = len(prompts)
        n = len(texts) // count
        first, second = torch.triu_indices(n, n, 1).tolist()
        comparisons = [
            (prompts[b], texts[b * n + i], texts[b * n + j])
            for b in range(count)
            for i, j in zip(first, second, strict=True)
        ]
        p = self.judge(*(list(part) for part in zip(*comparisons, strict=True))).double()
        preference = p.new_full((count, n, n), 0.5)
        preference[:, first, second] = p.reshape(count, -1)
        preference[:, second, first] = 1 - p.reshape(count, -1)
        if self.missing_end:
            cost = self._cost(own, p).reshape(count, n)
            preference = preference - cost[:, :, None] + cost[:, None, :]
        return preference, preference.mean(-1)


@dataclass(frozen=True)
class Scored:
    """A batch in the form that the loss takes.

    Attributes:
        kl: sum_t KL(pi || mu) of the whole distributions at the answers' prefixes, [B, N]. It is
            never negative and has the same mean as log pi(y)/mu(y) over y ~ pi.
        states: hidden states, if requested.
    """

    sampled: Sampled
    kl: Tensor
    states: Tensor | None


def _split(answers: Answers, own: int) -> tuple[Answers, Answers]:
    fields = [getattr(answers, f.name) for f in dataclasses.fields(answers)]
    return Answers(*(each[:own] for each in fields)), Answers(*(each[own:] for each in fields))


def _beside(parts: Sequence[Answers], count: int, pad: int) -> Answers | None:
    """Merge answers of several draws; those of each prompt are adjacent."""
    if len(parts) < 2:
        return parts[0] if parts else None
    longest = max(part.tokens.shape[1] for part in parts)
    joined = []
    for each_field, blank in zip(
        dataclasses.fields(Answers), (pad, False, None, 0.0, 0.0), strict=True
    ):
        columns = [getattr(part, each_field.name) for part in parts]
        if blank is not None:
            columns = [_widened(each, longest, blank) for each in columns]
        split = [each.reshape(count, -1, *each.shape[1:]) for each in columns]
        joined.append(torch.cat(split, 1).flatten(0, 1))
    return Answers(*joined)


def _widened(rows: Tensor, longest: int, blank: float) -> Tensor:
    return torch.nn.functional.pad(rows, (0, longest - rows.shape[1]), value=blank)
