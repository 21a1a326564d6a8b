"""DNO: soft policy iteration on the reward of beating oneself."""

from __future__ import annotations

from dataclasses import dataclass

from nlhf.algorithms.sppo import SPPO


@dataclass(frozen=True)
class DNO(SPPO):
    """pi_{t+1} ~ pi_t exp(eta r_t), r_t = P(. > pi_t): the exact regression gives SPPO's step.

    The paper's eta is the inverse of this one. On tables the two methods are identical; as
    losses over samples they differ, see `nlhf.language.objectives`.

    Source: Rosset et al. 2024 (arXiv 2404.03715), algorithm 1.
    """

    name = "dno"
