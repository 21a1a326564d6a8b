"""Intervals for shares that were counted."""

from __future__ import annotations

from scipy.special import betaincinv


def clopper_pearson(wins: int, ties: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the probability of winning, never too narrow.

    The lower bound is exact for ties as losses, the upper one for ties as wins; without ties both
    are the interval of Clopper and Pearson.

    Args:
        wins, ties: of n comparisons; 0 <= wins, wins + ties <= n.
        n: 0 gives (0, 1).
        confidence: in (0, 1).

    Source: Clopper and Pearson 1934 (Biometrika 26).
    """
    rest, most = (1 - confidence) / 2, wins + ties
    low = float(betaincinv(wins, n - wins + 1, rest)) if wins > 0 else 0.0
    high = float(betaincinv(most + 1, n - most, 1 - rest)) if most < n else 1.0
    return low, high
