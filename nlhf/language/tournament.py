"""A tournament: every policy against every other, on the same prompts, in both orders."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nlhf.errors import InputError
from nlhf.language.decoders import Decoder
from nlhf.language.decoding import Sampling, draw_uniforms
from nlhf.language.intervals import clopper_pearson
from nlhf.language.judging import AbstractJudge
from nlhf.language.loading import load_policy
from nlhf.language.prompts import Prompt, key_of, text_of
from nlhf.language.reading import read_answers
from nlhf.preferences.battles import Battles
from nlhf.ranking import rank
from nlhf.ranking.lottery import maximal_lotteries
from nlhf.ranking.results import ContextRanking
from nlhf.regularised_game import winning

PROMPT = "prompt"


@dataclass(frozen=True)
class PairRecord:
    """One policy against another, by number; `share` counts a tie as half a win.

    `low` and `high` bound the probability of winning a comparison (Clopper-Pearson, 95 %).
    `probability` is the mean of P(policy > other | x), the payoff of the game. `order` is the
    largest |P(a > b) + P(b > a) - 1|, the effect of the order on the judge.
    """

    step: int
    policy: int
    other: int
    n: int
    wins: int
    ties: int
    share: float
    low: float
    high: float
    probability: float
    order: float


@dataclass(frozen=True)
class PolicyRecord:
    """A policy in the field: its weight in the maximal lottery, and its strongest opponent.

    `exploitability` is max_j P(j > policy) - 1/2 over the field and `beaten_by` the maximising j;
    the policy itself if no other is better. `mean` is its mean probability against the others.
    """

    step: int
    policy: int
    mean: float
    lottery: float
    exploitability: float
    beaten_by: int


@dataclass(frozen=True)
class Tournament:
    """The results of a tournament.

    Attributes:
        pairs: all ordered pairs of two policies.
        policies: one record per policy.
        P: mean preference P(i > j), [K, K], float64, 1/2 on the diagonal.
        lottery_exploitability: exploitability of the maximal lottery; zero up to rounding.
        ranking: scores, lottery and verdict with their errors; whole prompts are resampled.
    """

    pairs: tuple[PairRecord, ...]
    policies: tuple[PolicyRecord, ...]
    P: Tensor
    lottery_exploitability: float
    ranking: ContextRanking


def play(
    judge: AbstractJudge,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Sequence[str]]],
    *,
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda comparisons: None,
    names: Sequence[str] | None = None,
    seed: int = 0,
    verdicts: list[Tensor] | None = None,
    after: Callable[[], None] = lambda: None,
) -> Tournament:
    """Compare the answers of K policies: each pair of policies on every prompt and draw.

        P(i > j) = mean over x, d of (P(y_i > y_j | x) + 1 - P(y_j > y_i | x)) / 2

    The maximal lottery is the equilibrium of P: a mixture to which no policy of the field is
    preferred. The intervals of pairs treat comparisons as independent, which several draws for one
    prompt are not; the ranking resamples whole prompts.

    Args:
        judge: asked in both orders.
        prompts: N prompts.
        answers: answers of K >= 2 policies, for each a list of D draws of N answers.
        batch_size: number of comparisons per call of the judge, >= 1.
        advance: called with the number of comparisons done for an unordered pair.
        names: names of the policies in the ranking; numbers by default.
        seed: seed of the ranking's resampling.
        verdicts: the judge's values so far, P(a > b) and P(b > a), [2, n], for each unordered
            pair; new values are added.
        after: called after each batch is added to `verdicts`.

    Raises:
        InputError: fewer than two policies, no prompt, or a judge that returns no probabilities.

    Source: the maximal lottery, Fishburn 1984 (Review of Economic Studies 51).
    """
    k = len(answers)
    if k < 2 or not prompts:
        raise InputError(f"{k} policies on {len(prompts)} prompts; give two policies and a prompt")
    P = torch.full((k, k), 0.5, dtype=torch.float64)
    verdicts = [] if verdicts is None else verdicts
    played: list[tuple[int, int, Tensor]] = []
    pairs: dict[tuple[int, int], PairRecord] = {}
    for number, (i, j) in enumerate(itertools.combinations(range(k), 2)):
        xs = list(prompts) * len(answers[i])
        a, b = ([y for draw in answers[side] for y in draw] for side in (i, j))
        if number == len(verdicts):
            verdicts.append(torch.empty(2, 0, dtype=torch.float64))
        for start in range(verdicts[number].shape[1], len(xs), batch_size):
            part = slice(start, start + batch_size)
            forward = judge(xs[part], a[part], b[part])
            # antisymmetric by construction: one order determines the other
            backward = 1 - forward if judge.antisymmetric else judge(xs[part], b[part], a[part])
            added = torch.stack([each.double().cpu() for each in (forward, backward)])
            verdicts[number] = torch.cat((verdicts[number], added), 1)
            advance(len(xs[part]))
            after()
        forward, backward = verdicts[number]
        # an answer ties with itself, however the judge rounds
        same = torch.tensor([y == z for y, z in zip(a, b, strict=True)])
        p = torch.where(same, 0.5, (forward + 1 - backward) / 2)
        order = float((forward + backward - 1).abs().max())
        P[i, j], P[j, i] = p.mean(), 1 - p.mean()
        played.append((i, j, p))
        wins, ties = int((p > 0.5).sum()), int((p == 0.5).sum())
        pairs[i, j] = _pair(i, j, len(p), wins, ties, float(P[i, j]), order)
        pairs[j, i] = _pair(j, i, len(p), len(p) - wins - ties, ties, float(P[j, i]), order)
    lottery = torch.from_numpy(maximal_lotteries(P[None].numpy())[0]).log()
    worst = float(winning(P, lottery).max()) - 0.5
    rows = tuple(_policy(P, i, weight) for i, weight in enumerate(lottery.exp().tolist()))
    listed = tuple(pairs[key] for key in sorted(pairs))
    names = names or [str(i) for i in range(k)]
    ranking = rank(_battles(played, names, len(prompts)), cluster=PROMPT, seed=seed)
    return Tournament(listed, rows, P, worst, ranking.contexts[0])


def _battles(
    played: Sequence[tuple[int, int, Tensor]], names: Sequence[str], prompts: int
) -> Battles:
    """The comparisons as battles, each won by a share; those of one prompt are grouped."""
    n = len(played[0][2])
    first = np.repeat([i for i, _, _ in played], n)
    second = np.repeat([j for _, j, _ in played], n)
    won = torch.cat([p for _, _, p in played]).numpy()
    of_prompt = [str(x % prompts) for _ in played for x in range(n)]
    return Battles(
        name="tournament",
        layout="comparisons of answers",
        items=tuple(names),
        first=first,
        second=second,
        won=won,
        lost=1 - won,
        tied=np.zeros(len(won)),
        columns={PROMPT: of_prompt},
    )


def _pair(i: int, j: int, n: int, wins: int, ties: int, p: float, order: float) -> PairRecord:
    low, high = clopper_pearson(wins, ties, n)
    return PairRecord(0, i, j, n, wins, ties, (wins + ties / 2) / n, low, high, p, order)


def _policy(P: Tensor, i: int, weight: float) -> PolicyRecord:
    best = int(P[:, i].argmax())
    if float(P[best, i]) <= 0.5:
        best = i
    mean = (float(P[i].sum()) - 0.5) / (len(P) - 1)
    return PolicyRecord(0, i, mean, weight, float(P[best, i]) - 0.5, best)


def answers_of(
    spec: str,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    generator: torch.Generator,
    *,
    draws: int = 1,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    options: Mapping[str, Any] | None = None,
    decoder: Decoder | None = None,
    advance: Callable[[int], None] = lambda answers: None,
    found: list[list[str]] | None = None,
    after: Callable[[], None] = lambda: None,
) -> list[list[str]]:
    """The answers of one policy: one list of N answers per draw.

    Args:
        spec: a JSON-lines file with an answer to each prompt (the same in every draw), or a spec of
            `load_policy`.
        prompts: N prompts.
        sampling: how a model's answers are sampled.
        generator: determines the answers.
        draws: answers per prompt, >= 1.
        batch_size: number of prompts answered together, >= 1.
        device: where a model computes.
        options: options of `load_policy`.
        decoder: samples a model's answers; chosen by device if None.
        advance: called with the number of prompts answered.
        found: the first answers of each draw, which the generator has already drawn; new ones are
            added.
        after: called after each batch is added to `found`.

    Raises:
        InputError: no such file or model, or a prompt is too long or has no answer.
    """
    found = [] if found is None else found
    if Path(spec).is_file():
        found[:] = [answers_in(spec, prompts, read_answers(spec))] * draws
        advance(len(prompts))
        return found
    policy = load_policy(spec, device=device, reference=False, **(options or {}))
    policy.check_room(prompts, sampling.max_new_tokens, spec)
    decoder = decoder or Decoder()
    found[:] = found or [[] for _ in range(draws)]
    for start in range(len(found[0]), len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        uniforms = draw_uniforms(len(part) * draws, sampling.max_new_tokens, generator)
        drawn = decoder(policy, policy.encode(part), draws, 0, 0.0, sampling, uniforms)
        texts = policy.texts(drawn.tokens, drawn.mask)
        for d in range(draws):
            found[d] += texts[d::draws]
        advance(len(part))
        after()
    return found


def answers_in(path: str, prompts: Sequence[Prompt], known: Mapping[str, str]) -> list[str]:
    """Pick the answers to all prompts, [N], from the answers of a file, see `read_answers`.

    Raises:
        InputError: a prompt has no answer.
    """
    found = []
    for number, prompt in enumerate(prompts, 1):
        answer = known.get(key_of(prompt))
        if answer is None:
            raise InputError(
                f"{path}: no answer to prompt {number}, {text_of(prompt)[:40]!r}; give every "
                "prompt an answer"
            )
        found.append(answer)
    return found
