"""Comparisons whatever the order of their answers."""

from nlhf.language.comparisons import Comparison


def better_first(c: Comparison) -> tuple[str, str, float]:
    """The better answer, the other one, and the share of votes for the better."""
    return (c.a, c.b, c.share) if c.share >= 0.5 else (c.b, c.a, 1 - c.share)
