"""Confidence intervals for counted shares."""

from __future__ import annotations

from scipy.special import betaincinv


def clopper_pearson(wins: int, ties: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Conservative confidence bounds on the probability of winning.

    The lower bound is exact when ties count as losses, the upper bound when ties count as wins.
    Without ties this is the Clopper-Pearson interval.

    Args:
        wins, ties: counts out of n comparisons; 0 <= wins, wins + ties <= n.
        n: number of comparisons; 0 gives (0, 1).
        confidence: confidence level in (0, 1).

    Source: Clopper and Pearson 1934 (Biometrika 26).
    """
    rest, most = (1 - confidence) / 2, wins + ties
    low = float(betaincinv(wins, n - wins + 1, rest)) if wins > 0 else 0.0
    high = float(betaincinv(most + 1, n - most, 1 - rest)) if most < n else 1.0
    return low, high
