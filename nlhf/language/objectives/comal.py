"""COMAL: INPO with a moving reference, which converges to the unregularised equilibrium."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.language.objectives.inpo import INPO


@dataclass(frozen=True, kw_only=True)
class COMAL(INPO):
    """INPO's loss; every `reference_every` steps the policy replaces the reference.

    Source: Liu et al. 2024 (arXiv 2410.23223), algorithm 1.
    """

    name = "comal"
    moves_reference = 50
