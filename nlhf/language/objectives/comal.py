"""COMAL: INPO on a game whose reference follows, to the equilibrium without regularisation."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.language.objectives.inpo import INPO


@dataclass(frozen=True, kw_only=True)
class COMAL(INPO):
    """INPO's loss; every `reference_every` steps the policy takes the reference's place.

    Source: Liu et al. 2024 (arXiv 2410.23223), algorithm 1.
    """

    name = "comal"
    moves_reference = 50
