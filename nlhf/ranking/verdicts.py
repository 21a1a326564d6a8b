"""What the votes decide: a winner, a cycle, or nothing yet; and how many more votes would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, ndtr

from nlhf.ranking.bradley_terry import Numbers
from nlhf.ranking.cycles import Misfit, Triads

Decision = Literal["winner", "cycle", "undecided"]
LEVEL = 0.95
FEW = 5
"""Votes on the rarer side of a pair below which resampling understates uncertainty."""
_TRUTHS = 200
_DOUBLINGS = 24
_MOST = 12


@dataclass(frozen=True)
class Verdict:
    """The decision that the votes support.

    Attributes:
        decision: "winner" where one item beats every other in LEVEL of the resamples; "cycle" where
            three items of the top cycle are cyclic in the same direction in LEVEL of them and
            scores do not explain the votes (p <= 1 - LEVEL); else "undecided".
        winner: index of the winning item, or None.
        cycle: indices of the items in the cycle, each beating the next, or ().
        probability: probability of the decision; if undecided, of the most likely winner.
    """

    decision: Decision
    winner: int | None
    cycle: tuple[int, ...]
    probability: float


@dataclass(frozen=True)
class Further:
    """Battles that would decide an undecided comparison.

    Attributes:
        battles: total number, split evenly among the pairs, with which half of the simulated
            comparisons are decided; None if even the largest number tried is not enough.
        tried: the largest number of battles tried.
        pairs: the pairs to compare, by the indices of their items.
    """

    battles: int | None
    tried: int
    pairs: tuple[tuple[int, int], ...]


def sure(wins: Numbers, beats: Numbers, level: float = LEVEL) -> NDArray[np.bool_]:
    """Which items surely beat which, [K, K], pair by pair.

    An item must win in at least `level` of the resamples. Where the rarer side has fewer than FEW
    votes, which resampling cannot distinguish from none, it must also pass the exact binomial test.

    Args:
        wins: wins with ties as halves, [K, K].
        beats: share of resamples in which i beats j, [K, K].
        level: in (0, 1).
    """
    return (beats >= level) & well_tested(wins, level)


def well_tested(wins: Numbers, level: float = LEVEL) -> NDArray[np.bool_]:
    """Whether i over j passes the exact binomial test, or has enough votes not to need it."""
    n = wins + wins.T
    few = np.minimum(wins, wins.T) < FEW
    won, total = np.floor(wins), np.round(n)
    # P(at least so many wins of a fair coin); importing scipy.stats takes a second
    p = np.where(won > 0, betainc(np.maximum(won, 1), total - won + 1, 0.5), 1.0)
    return ~few | (p <= 1 - level)


def decide(
    wins: Numbers, first: Numbers, triads: Triads, misfit: Misfit | None, level: float = LEVEL
) -> Verdict:
    """Apply the rules of `Verdict`.

    Args:
        wins: wins with ties as halves, [K, K].
        first: share of resamples in which an item beats every other, [K].
        triads: triads with the share of resamples in which they are cyclic on top.
        misfit: test of the scores; without it no cycle is claimed.
        level: in (0, 1).
    """
    enough = well_tested(wins, level) | np.eye(len(wins), dtype=bool)
    best = int(first.argmax())
    if first[best] >= level and bool(enough[best].all()):
        return Verdict("winner", best, (), float(first[best]))
    if misfit is not None and misfit.p <= 1 - level:
        for t in np.argsort(-triads.on_top, kind="stable"):
            i, j, k = (int(n) for n in triads.members[t])
            if triads.on_top[t] < level:
                break
            if enough[i, j] and enough[j, k] and enough[k, i]:
                return Verdict("cycle", None, (i, j, k), float(triads.on_top[t]))
    return Verdict("undecided", None, (), float(first[best]))


def further(
    wins: Numbers,
    beats: Numbers,
    tops: NDArray[np.bool_],
    rng: np.random.Generator,
    level: float = LEVEL,
) -> Further:
    """Simulate how many more battles would decide.

    The pairs are those among at most 12 items that may be on top, if their order is not sure.
    Truths are drawn from the posterior Beta(wins + 1/2, losses + 1/2) of each pair. For n more
    battles per pair, the share of wins is drawn from a normal distribution about the truth and
    added to the existing votes. A comparison counts as decided if one item beats every other, or
    three form a cycle, with probability `level`, each pair by the normal approximation.

    Args:
        wins: wins with ties as halves, [K, K].
        beats: share of resamples in which i beats j, [K, K].
        tops: who is in the top cycle in each resample, [B, K].
        rng: random generator of the simulation.
        level: in (0, 1).
    """
    often, known = tops.mean(0), sure(wins, beats, level)
    best = int(often.argmax())
    contenders = np.flatnonzero((often >= 1 - level) | ~known[best])
    if len(contenders) > _MOST:
        contenders = np.sort(np.argsort(-often, kind="stable")[:_MOST])
    pairs = [
        (int(i), int(j))
        for n, i in enumerate(contenders)
        for j in contenders[n + 1 :]
        if not (known[i, j] or known[j, i])
    ]
    if not pairs:
        pairs = [(int(i), int(j)) for n, i in enumerate(contenders) for j in contenders[n + 1 :]]
    if not pairs:
        return Further(None, 0, ())
    part = np.ix_(contenders, contenders)
    w = wins[part]
    n = w + w.T
    upper = np.triu(rng.beta(w + 0.5, w.T + 0.5, size=(_TRUTHS, *w.shape)), 1)
    truths = upper + np.tril(1 - upper.swapaxes(1, 2), -1)
    more = np.zeros(n.shape)
    at = {int(c): p for p, c in enumerate(contenders)}
    for i, j in pairs:
        more[at[i], at[j]] = more[at[j], at[i]] = 1.0
    noise = rng.standard_normal(truths.shape)
    noise = np.triu(noise, 1)
    noise = noise - noise.swapaxes(1, 2)
    done, battles = 0.0, 0
    for step in range(_DOUBLINGS):
        each = 2**step
        battles = each * len(pairs)
        extra = more * each
        new = extra * truths + noise * np.sqrt(extra * truths * (1 - truths))
        total = np.maximum(n + extra, 1e-9)
        share = np.clip((w + new) / total, 0.5 / (total + 1), 1 - 0.5 / (total + 1))
        z = (share - 0.5) * np.sqrt(total / (share * (1 - share)))
        done = float(_decided(ndtr(z), level).mean())
        if done >= 0.5:
            return Further(battles, battles, tuple(pairs))
    return Further(None, battles, tuple(pairs))


def _decided(above: Numbers, level: float) -> NDArray[np.bool_]:
    """Whether a winner or a cyclic triad is sure, given probabilities that i beats j, [B, m, m]."""
    m = above.shape[-1]
    off = above.copy()
    off[:, np.arange(m), np.arange(m)] = 1.0
    winner = (off.prod(-1) >= level).any(-1)
    cycle = np.zeros(len(above), dtype=bool)
    for i in range(m):
        # i beats j, j beats k, k beats i
        going = above[:, i, :, None] * above * above[:, :, i][:, None, :]
        cycle |= going.reshape(len(above), -1).max(-1) >= level
    return winner | cycle
