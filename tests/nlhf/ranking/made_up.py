"""Votes with known truths."""

import numpy as np
from scipy.special import expit

from nlhf.preferences.reading import read_battles


def tally(votes):
    """Battles from {(item, other): (wins of item, wins of other)}."""
    rows = [
        {"item_a": a, "item_b": b, "wins_a": won, "wins_b": lost}
        for (a, b), (won, lost) in votes.items()
    ]
    return read_battles(rows)


def of_shares(P, n, rng):
    """n battles of random pairs, won as P says."""
    i, j = np.triu_indices(len(P), 1)
    battles = rng.multinomial(n, np.full(len(i), 1 / len(i)))
    won = rng.binomial(battles, P[i, j])
    return tally(
        {
            (f"m{a:02d}", f"m{b:02d}"): (int(w), int(t - w))
            for a, b, w, t in zip(i, j, won, battles, strict=True)
        }
    )


def transitive(k, n, rng, spread=0.5):
    """n battles of k items with normal scores, and the scores in the order of their names."""
    r = spread * rng.standard_normal(k)
    return of_shares(expit(r[:, None] - r[None]), n, rng), r - r.mean()


def planted_cycle(k, n, rng, edge=0.6):
    """n battles: three of k items form a cycle, each beaten with `edge`; the rest lose."""
    r = np.concatenate([np.full(3, 1.0), -0.5 * rng.random(k - 3)])
    P = expit(r[:, None] - r[None])
    for a, b in ((0, 1), (1, 2), (2, 0)):
        P[a, b], P[b, a] = edge, 1 - edge
    return of_shares(P, n, rng)
