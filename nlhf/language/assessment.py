"""Quality of a preference model on comparisons: accuracy, calibration, cycles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from nlhf.language.comparisons import Comparison, shares, weights
from nlhf.language.intervals import clopper_pearson
from nlhf.language.prompts import Prompt, key_of

BINS = 10
MOST_ANSWERS = 12
"""Number of answers per prompt, from the first, that are checked for cycles."""

Logits = Callable[[Sequence[Prompt], Sequence[str], Sequence[str]], Tensor]


@dataclass(frozen=True)
class Bin:
    """Comparisons of similar confidence max(P, 1 - P), and how often the votes agreed."""

    low: float
    high: float
    count: int
    confidence: float
    agreement: float


@dataclass(frozen=True)
class Cycles:
    """How cyclic preferences are over the answers of each prompt.

    Attributes:
        triads: number of triples of answers.
        cyclic: share of cyclic triples, a > b > c > a; NaN without a triple. Chance level is 1/4.
        energy: share of the squared logits that no reward can explain: the component orthogonal to
            r_i - r_j. NaN where no prompt has three answers.
    """

    triads: int
    cyclic: float
    energy: float


@dataclass(frozen=True)
class Assessment:
    """A preference model evaluated on comparisons.

    Attributes:
        n, decided: number of comparisons, and number of those without a tie.
        accuracy: share of decided comparisons where P is above 1/2 for the side with more votes;
            P = 1/2 counts half. `accuracy_low`, `accuracy_high`: its 95 % Clopper-Pearson interval.
        longer: accuracy of the rule "the answer with more letters wins".
        loss: mean of -log P per vote, in nats.
        brier: mean of (P - share)^2, weighted by votes.
        ece: expected calibration error, sum_bins n/N |confidence - agreement|.
        bins: the bins from which `ece` is computed.
        model_cycles, vote_cycles: cycles of the model and of the votes.
    """

    n: int
    decided: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    longer: float
    loss: float
    brier: float
    ece: float
    bins: tuple[Bin, ...]
    model_cycles: Cycles
    vote_cycles: Cycles

    def as_json(self) -> dict[str, Any]:
        """The assessment as JSON values; NaN becomes null."""
        return _without_nan(asdict(self))


def assess(logits: Logits, comparisons: Sequence[Comparison]) -> Assessment:
    """Compare a model's P = sigmoid(z) with votes.

    Args:
        logits: returns z(a > b | x), [B], for lists of prompts and answers.
        comparisons: at least one.
    """
    prompts = [c.prompt for c in comparisons]
    a, b = [c.a for c in comparisons], [c.b for c in comparisons]
    z, share, votes = logits(prompts, a, b).double(), shares(comparisons), weights(comparisons)
    p = torch.sigmoid(z)
    longer = torch.tensor([len(c.a) - len(c.b) for c in comparisons]).sign()
    sides = (share - 0.5).sign()
    decided = sides != 0
    right = (z.sign() * sides)[decided]
    wins, ties, n = int((right > 0).sum()), int((right == 0).sum()), int(decided.sum())
    low, high = clopper_pearson(wins, ties, n)
    total = votes.sum()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, share, votes, reduction="sum")
    bins, ece = _calibration(z, share)
    return Assessment(
        n=len(comparisons),
        decided=n,
        accuracy=_agreement(right),
        accuracy_low=low,
        accuracy_high=high,
        longer=_agreement((longer * sides)[decided]),
        loss=float(loss / total),
        brier=float((votes * (p - share).square()).sum() / total),
        ece=ece,
        bins=bins,
        model_cycles=model_cycles(logits, comparisons),
        vote_cycles=vote_cycles(comparisons),
    )


def _agreement(signs: Tensor) -> float:
    return float((signs.double() + 1).mean() / 2) if len(signs) else math.nan


def _calibration(z: Tensor, share: Tensor) -> tuple[tuple[Bin, ...], float]:
    """Bins of confidence and the expected calibration error.

    Agreement is the share of votes for the side that P prefers. At P = 1/2 it is 1/2, as in the
    accuracy.

    Source: Naeini et al. 2015 (AAAI); Guo et al. 2017 (arXiv 1706.04599), section 2.
    """
    confidence = torch.sigmoid(z.abs())
    agreement = 0.5 + z.sign() * (share - 0.5)
    number = ((confidence - 0.5) * 2 * BINS).long().clamp(0, BINS - 1)
    bins, ece = [], 0.0
    for i in range(BINS):
        inside = number == i
        count = int(inside.sum())
        mean = [float(v[inside].mean()) if count else math.nan for v in (confidence, agreement)]
        bins.append(Bin(0.5 + i / (2 * BINS), 0.5 + (i + 1) / (2 * BINS), count, *mean))
        if count:
            ece += count / len(z) * abs(mean[0] - mean[1])
    return tuple(bins), ece


def model_cycles(logits: Logits, comparisons: Sequence[Comparison]) -> Cycles:
    """Cycles of a model over all answers of each prompt, at most MOST_ANSWERS of them.

    Source of the energy: Jiang et al. 2011 (arXiv 0811.1067), section 3, on complete graphs.
    """
    prompts: dict[str, tuple[Prompt, dict[str, None]]] = {}
    for c in comparisons:
        answers = prompts.setdefault(key_of(c.prompt), (c.prompt, {}))[1]
        for answer in (c.a, c.b):
            if len(answers) < MOST_ANSWERS:
                answers[answer] = None
    triads = cyclic = 0
    unexplained = whole = 0.0
    for prompt, found in prompts.values():
        answers, k = list(found), len(found)
        if k < 3:
            continue
        first, second = zip(*itertools.combinations(range(k), 2), strict=True)
        z = logits([prompt] * len(first), [answers[i] for i in first], [answers[j] for j in second])
        Z = torch.zeros(k, k, dtype=torch.float64)
        Z[first, second], Z[second, first] = z.double(), -z.double()
        reward = Z.mean(1)
        unexplained += float((Z - reward[:, None] + reward).square().sum())
        whole += float(Z.square().sum())
        number, circular = _triads(Z.sign())
        triads, cyclic = triads + number, cyclic + circular
    return Cycles(
        triads,
        cyclic / triads if triads else math.nan,
        unexplained / whole if whole else (0.0 if triads else math.nan),
    )


def vote_cycles(comparisons: Sequence[Comparison]) -> Cycles:
    """Cycles of majority votes in triples of answers whose pairs were all compared, untied."""
    prompts: dict[str, dict[tuple[str, str], float]] = {}
    for c in comparisons:
        tally = prompts.setdefault(key_of(c.prompt), {})
        margin = c.votes * (2 * c.share - 1)
        for pair, value in (((c.a, c.b), margin), ((c.b, c.a), -margin)):
            tally[pair] = tally.get(pair, 0.0) + value
    triads = cyclic = 0
    for tally in prompts.values():
        names = {name: i for i, name in enumerate(dict.fromkeys(a for a, _ in tally))}
        sides = torch.zeros(len(names), len(names), dtype=torch.float64)
        for (a, b), margin in tally.items():
            sides[names[a], names[b]] = (margin > 0) - (margin < 0)
        number, circular = _triads(sides.fill_diagonal_(0))
        triads, cyclic = triads + number, cyclic + circular
    return Cycles(triads, cyclic / triads if triads else math.nan, math.nan)


def _triads(sides: Tensor) -> tuple[int, int]:
    """Count triples with three decided sides and cyclic ones among them; [K, K] of -1, 0, 1."""
    wins, compared = (sides > 0).double(), (sides != 0).double()
    closed = float((compared @ compared @ compared).trace()) / 6
    return round(closed), round(float((wins @ wins @ wins).trace()) / 3)


def _without_nan(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
