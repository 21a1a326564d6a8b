"""COMAL: a sequence of regularised games; each uses the previous solution as its reference."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nlhf.algorithms.base import Problem, State
from nlhf.algorithms.inpo import INPO
from nlhf.errors import InputError


@dataclass(frozen=True)
class COMAL(INPO):
    """pi^{k+1} = the equilibrium of P_tau with reference pi^k, by `reference_every` steps of INPO.

    A proximal-point method: the last iterate converges to an equilibrium of the game without
    regularisation, linearly where that equilibrium is unique.

    Attributes:
        reference_every: number of steps of INPO before the policy replaces the reference, >= 1.

    Source: Liu et al. 2024 (arXiv 2410.23223), algorithm 1 and theorem 1.
    """

    name = "comal"
    solves = "plain"
    reference_every: int = 50

    def __post_init__(self) -> None:
        if self.reference_every < 1:
            raise InputError(f"reference_every={self.reference_every} must be at least 1 step")

    def step(self, problem: Problem, state: State) -> State:
        reference = state.memory.get("reference", state.log_pi)
        after = super().step(replace(problem, log_mu=reference), state)
        if after.step % self.reference_every == 0:
            reference = after.log_pi
        return State(after.log_pi, after.step, {"reference": reference})
