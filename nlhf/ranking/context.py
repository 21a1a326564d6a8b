"""The ranking of one context."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from nlhf import regularised_game
from nlhf.oracle import solve_equilibrium
from nlhf.preferences.battles import Battles
from nlhf.ranking.bradley_terry import Cells, Fit, Numbers, fit, islands, unbounded
from nlhf.ranking.cycles import Triads, triads
from nlhf.ranking.draws import Draws, draw
from nlhf.ranking.elo import elo_ratings
from nlhf.ranking.errors_of_scores import percentiles, rank_ranges, sandwich
from nlhf.ranking.lottery import exploitability, maximal_lotteries
from nlhf.ranking.results import ContextRanking, Cycle, Item, Path, Position, in_order
from nlhf.ranking.sampling import Sample, make_sample, share_table, win_table
from nlhf.ranking.settings import Settings
from nlhf.ranking.verdicts import FEW, Further, Verdict, decide, further, sure

TAUS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
PLAYED = 1e-9
"""Weight from which an item is in the support of an exact lottery."""
UNSEPARATED = 0.5
"""Pseudo-votes a side where the likelihood has no finite maximum."""
_UNKNOWN = 7.0
"""An effect of position beyond this is no estimate: whoever is first wins everything."""
_NORMAL = 1.959963984540054


def rank_context(
    battles: Battles,
    name: str,
    rows: NDArray[np.int64],
    cluster: str | None,
    settings: Settings,
    rng: np.random.Generator,
    advance: Callable[[int], None] = lambda resamples: None,
) -> ContextRanking:
    """Rank the items that occur in some rows of battles, see `nlhf.rank` and `draw`."""
    if battles.shares is not None:
        items = np.arange(len(battles.items))
        sample = _of_shares(battles.shares)
    else:
        items = np.unique(np.concatenate([battles.first[rows], battles.second[rows]]))
        sample = make_sample(battles, rows, items, cluster)
    names = [battles.items[i] for i in items]
    wins = win_table(sample.cells, sample.won, sample.lost, sample.tied)
    apart, separated = islands(wins), unbounded(wins)
    pseudo = settings.smoothing or (UNSEPARATED if separated else 0.0)
    fitted = _fit(sample, pseudo, settings)
    P = share_table(wins, settings.smoothing)
    lottery = maximal_lotteries(P[None])[0]
    drawn = None
    if settings.bootstrap and battles.shares is None and sample.total.sum():
        drawn = draw(sample, fitted, pseudo, settings, rng, len(apart), advance)
    verdict, found, more = _decided(sample, wins, drawn, rng)
    scores = _scores(sample, wins, fitted, drawn, apart, separated, settings)
    order = np.argsort(-np.nan_to_num(scores["score"], nan=-np.inf), kind="stable")
    beats = np.full(P.shape, np.nan) if drawn is None else drawn.beats
    known = sure(wins, np.nan_to_num(beats)) if drawn is not None else np.zeros(P.shape, bool)
    elo = np.full(len(items), np.nan)
    if settings.elo:
        elo = elo_ratings(battles, rows)[items]
    counts = wins + wins.T
    path = _path(P[np.ix_(order, order)])
    return ContextRanking(
        context=name,
        battles=float(sample.total.sum()) if battles.shares is None else np.nan,
        ties=float(sample.tied.sum()) if battles.shares is None else np.nan,
        items=_items(names, order, scores, lottery, drawn, _fought(battles, counts), elo),
        verdict=verdict.decision,
        winner=None if verdict.winner is None else names[verdict.winner],
        probability=verdict.probability,
        top_cycle=tuple(names[i] for i in verdict.cycle),
        cycles=_cycles(names, found),
        misfit=None if drawn is None else drawn.misfit,
        exploitability=max(float(exploitability(P, lottery)), 0.0),
        certificate=float(path.certificate.max()),
        path=path,
        position=_position(battles, rows, items, cluster, settings),
        tie=float(fitted.tie) if settings.ties != "half" else np.nan,
        unordered=_pairs(names, order, ~(known | known.T)),
        never_compared=_pairs(names, order, counts == 0) if battles.shares is None else (),
        islands=tuple(tuple(names[i] for i in part) for part in apart),
        unbounded=tuple(tuple(names[i] for i in part) for part in separated),
        further=more.battles,
        further_tried=more.tried,
        further_pairs=tuple((names[i], names[j]) for i, j in more.pairs),
        clusters=sample.clusters,
        resamples=0 if drawn is None else len(drawn.tops),
        lotteries=0 if drawn is None else len(drawn.lotteries),
        smoothing=pseudo,
        P=in_order(P, order),
        counts=in_order(counts, order),
        beats=in_order(beats, order),
    )


def _of_shares(shares: Numbers) -> Sample:
    """One battle a known pair, as far as estimates are concerned."""
    i, j = np.nonzero(np.triu(~np.isnan(shares), 1))
    won = shares[i, j]
    return Sample(Cells(len(shares), i, j), won, 1 - won, np.zeros(len(i)))


def _fit(sample: Sample, pseudo: float, settings: Settings) -> Fit:
    some = pseudo * (sample.total > 0)
    return fit(sample.cells, sample.won + some, sample.lost + some, sample.tied, settings.ties)


def _decided(
    sample: Sample, wins: Numbers, drawn: Draws | None, rng: np.random.Generator
) -> tuple[Verdict, Triads, Further]:
    none = np.zeros(0)
    if drawn is None:
        empty = Triads(np.zeros((0, 3), dtype=np.int64), none, none)
        return Verdict("undecided", None, (), np.nan), empty, Further(None, 0, ())
    found = triads(sample.cells, drawn.above, drawn.tops)
    verdict = decide(wins, drawn.first, found, drawn.misfit)
    more = Further(None, 0, ())
    if verdict.decision == "undecided":
        more = further(wins, drawn.beats, drawn.tops, rng)
    return verdict, found, more


def _scores(
    sample: Sample,
    wins: Numbers,
    fitted: Fit,
    drawn: Draws | None,
    apart: list[list[int]],
    separated: list[list[int]],
    settings: Settings,
) -> dict[str, Numbers]:
    """Scores, errors, intervals and ranges of ranks, [K] each; NaN where not known."""
    k = len(wins)
    label = np.zeros(k)
    for number, part in enumerate(apart):
        label[part] = number
    joined = label[:, None] == label[None]
    score = fitted.scores - (joined @ fitted.scores) / joined.sum(-1)
    error = np.full(k, np.nan)
    if drawn is not None:
        covariance = sandwich(sample, fitted, settings.ties)[:k, :k]
        error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    low, high = score - _NORMAL * error, score + _NORMAL * error
    rank_low, rank_high = np.ones(k), np.full(k, k)
    if drawn is not None:
        draws = drawn.scores - drawn.scores @ (joined / joined.sum(-1))
        if settings.intervals == "bootstrap":
            low, high = percentiles(draws)
        rank_low, rank_high = rank_ranges(score, draws, joined)
    for part in separated:
        outside = np.setdiff1d(np.arange(k), part)
        if not len(outside) or not joined[part][:, outside].any():
            continue
        above, below = wins[part][:, outside].sum(), wins[outside][:, part].sum()
        # few votes bound nothing on the other side either
        if not below:
            high[part] = np.inf
            low[part] = low[part] if above >= FEW else -np.inf
        if not above:
            low[part] = -np.inf
            high[part] = high[part] if below >= FEW else np.inf
    alone = (wins + wins.T).sum(-1) == 0
    for each in (score, error, low, high):
        each[alone] = np.nan
    return {
        "score": score, "error": error, "low": low, "high": high,
        "rank_low": rank_low, "rank_high": rank_high,
    }  # fmt: skip


def _items(
    names: list[str],
    order: NDArray[np.int64],
    scores: dict[str, Numbers],
    lottery: Numbers,
    drawn: Draws | None,
    fought: Numbers,
    elo: Numbers,
) -> tuple[Item, ...]:
    k = len(names)
    none = np.full(k, np.nan)
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


def _fought(battles: Battles, counts: Numbers) -> Numbers:
    return counts.sum(1) if battles.shares is None else np.full(len(counts), np.nan)


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
    """The effect of being shown first, where pairs were shown both ways round."""
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
    return Position(value, value - _NORMAL * error, value + _NORMAL * error)
