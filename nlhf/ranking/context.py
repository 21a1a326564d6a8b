"""The ranking of one context."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from nlhf import regularised_game
from nlhf.oracle import solve_equilibrium
from nlhf.preferences.battles import Battles
from nlhf.ranking.bradley_terry import Numbers, fit
from nlhf.ranking.cycles import Triads, triads
from nlhf.ranking.elo import elo_ratings
from nlhf.ranking.errors_of_scores import percentiles, sandwich
from nlhf.ranking.estimates import NORMAL, Estimates, estimate, scores_of
from nlhf.ranking.lottery import exploitability
from nlhf.ranking.results import ContextRanking, Cycle, Item, Path, Position, in_order
from nlhf.ranking.sampling import make_sample
from nlhf.ranking.settings import Settings
from nlhf.ranking.verdicts import Further, Verdict, decide, further

TAUS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
PLAYED = 1e-9
"""Smallest weight with which an item is in the support of an exact lottery."""
_UNKNOWN = 7.0
"""Largest credible effect of position; beyond it, whoever is first wins everything."""


def rank_context(
    battles: Battles,
    name: str,
    rows: NDArray[np.int64],
    cluster: str | None,
    settings: Settings,
    rng: np.random.Generator,
    advance: Callable[[int], None] = lambda resamples: None,
) -> ContextRanking:
    """Rank the items that occur in some rows of battles; see `nlhf.rank` and `draw`."""
    e = estimate(battles, rows, cluster, settings, rng, advance)
    verdict, found, more = _decided(e, rng)
    scores = scores_of(e, settings)
    order = np.argsort(-np.nan_to_num(scores["score"], nan=-np.inf), kind="stable")
    names, drawn = [battles.items[i] for i in e.items], e.drawn
    path = _path(e.P[np.ix_(order, order)])
    return ContextRanking(
        context=name,
        battles=float(e.sample.total.sum()) if e.counted else np.nan,
        ties=float(e.sample.tied.sum()) if e.counted else np.nan,
        items=_items(names, order, scores, e, _elo(battles, rows, e.items, settings)),
        verdict=verdict.decision,
        winner=None if verdict.winner is None else names[verdict.winner],
        probability=verdict.probability,
        top_cycle=tuple(names[i] for i in verdict.cycle),
        cycles=_cycles(names, found),
        misfit=None if drawn is None else drawn.misfit,
        exploitability=max(float(exploitability(e.P, e.lottery)), 0.0),
        certificate=float(path.certificate.max()),
        path=path,
        position=_position(battles, rows, e.items, cluster, settings),
        tie=float(e.fitted.tie) if settings.ties != "half" else np.nan,
        unordered=_pairs(names, order, ~e.ordered),
        never_compared=_pairs(names, order, e.counts == 0) if e.counted else (),
        islands=tuple(tuple(names[i] for i in part) for part in e.apart),
        unbounded=tuple(tuple(names[i] for i in part) for part in e.separated),
        further=more.battles,
        further_tried=more.tried,
        further_pairs=tuple((names[i], names[j]) for i, j in more.pairs),
        clusters=e.sample.clusters,
        resamples=0 if drawn is None else len(drawn.tops),
        lotteries=0 if drawn is None else len(drawn.lotteries),
        smoothing=e.smoothing,
        P=in_order(e.P, order),
        counts=in_order(e.counts, order),
        beats=in_order(e.beats, order),
    )


def _decided(e: Estimates, rng: np.random.Generator) -> tuple[Verdict, Triads, Further]:
    wins, drawn = e.wins, e.drawn
    none = np.zeros(0)
    if drawn is None:
        empty = Triads(np.zeros((0, 3), dtype=np.int64), none, none)
        return Verdict("undecided", None, (), np.nan), empty, Further(None, 0, ())
    found = triads(e.sample.cells, drawn.above, drawn.tops)
    verdict = decide(wins, drawn.first, found, drawn.misfit)
    more = Further(None, 0, ())
    if verdict.decision == "undecided":
        more = further(wins, drawn.beats, drawn.tops, rng)
    return verdict, found, more


def _items(
    names: list[str],
    order: NDArray[np.int64],
    scores: dict[str, Numbers],
    estimates: Estimates,
    elo: Numbers,
) -> tuple[Item, ...]:
    lottery, drawn, fought = estimates.lottery, estimates.drawn, estimates.fought
    none = np.full(len(names), np.nan)
    low, high, support, first = none, none, (lottery > PLAYED).astype(float), none
    if drawn is not None:
        first, support = drawn.first, none
        if len(drawn.lotteries):
            low, high = percentiles(drawn.lotteries)
            support = (drawn.lotteries > PLAYED).mean(0)
    return tuple(
        Item(
            name=names[i],
            bradley_terry=float(scores["score"][i]),
            low=float(scores["low"][i]),
            high=float(scores["high"][i]),
            standard_error=float(scores["error"][i]),
            rank=place,
            rank_low=int(scores["rank_low"][i]),
            rank_high=int(scores["rank_high"][i]),
            lottery=float(lottery[i]),
            lottery_low=float(low[i]),
            lottery_high=float(high[i]),
            in_support=float(support[i]),
            first=float(first[i]),
            battles=float(fought[i]),
            elo=float(elo[i]),
        )
        for place, i in enumerate(order.tolist(), 1)
    )


def _elo(
    battles: Battles, rows: NDArray[np.int64], items: NDArray[np.int64], settings: Settings
) -> Numbers:
    if not settings.elo:
        return np.full(len(items), np.nan)
    return elo_ratings(battles, rows)[items]


def _cycles(names: list[str], found: Triads) -> tuple[Cycle, ...]:
    rows = zip(found.members.tolist(), found.probability, found.on_top, strict=True)
    return tuple(Cycle(tuple(names[i] for i in m), float(p), float(t)) for m, p, t in rows)


def _pairs(
    names: list[str], order: NDArray[np.int64], which: NDArray[np.bool_]
) -> tuple[tuple[str, str], ...]:
    ordered = which[np.ix_(order, order)]
    return tuple((names[order[i]], names[order[j]]) for i, j in np.argwhere(np.triu(ordered, 1)))


def _path(P: Numbers) -> Path:
    k = len(P)
    game = torch.from_numpy(np.ascontiguousarray(P))
    log_mu = torch.full((len(TAUS), k), -float(np.log(k)), dtype=torch.float64)
    taus = torch.tensor(TAUS, dtype=torch.float64)
    log_pi = solve_equilibrium(game, log_mu, taus)
    f = regularised_game.exploitability(game, log_pi, log_mu, taus)
    return Path(TAUS, log_pi.exp().numpy(), f.numpy(), (f / taus).numpy())


def _position(
    battles: Battles,
    rows: NDArray[np.int64],
    items: NDArray[np.int64],
    cluster: str | None,
    settings: Settings,
) -> Position | None:
    """The effect of being shown first, where pairs were shown in both orders."""
    if not battles.ordered:
        return None
    sample = make_sample(battles, rows, items, cluster, position=True)
    pair = sample.cells.i * len(items) + sample.cells.j
    fought = pair[sample.total > 0]
    if len(np.unique(fought)) == len(fought):
        return None
    fitted = fit(sample.cells, sample.won, sample.lost, sample.tied, settings.ties)
    covariance = sandwich(sample, fitted, settings.ties)
    error = float(np.sqrt(max(covariance[-1, -1], 0.0)))
    value = float(fitted.position)
    if abs(value) > _UNKNOWN:
        return None
    return Position(value, value - NORMAL * error, value + NORMAL * error)
