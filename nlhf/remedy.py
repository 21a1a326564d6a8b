"""Find settings that converge where a method has not, by trying them."""

from __future__ import annotations

import torch
from torch import Tensor

from nlhf.algorithms import MirrorProx, Problem
from nlhf.regularised_game import CONVERGED, certificate_with_rounding

STEPS = (500, 1000, 2000, 5000)
MOST_WORK = 1e9
"""Budget of a trial: multiplications in the products of tables with policies."""


@torch.no_grad()
def find_remedy(problem: Problem, star: Tensor) -> str:
    """Name the methods, with their settings, that converge in every context.

    Args:
        problem: the games, in float64 and with exact feedback.
        star: log-probabilities of the oracle's policies, [C, K].
    """
    exact = float(_bound(problem, star).nan_to_num(torch.inf).max())
    if exact > CONVERGED:
        return "no method reaches it in double precision; use a larger tau"
    found = f"use --algorithm exact (certificate {exact:.1g})"
    steps, reached = _mirror_prox(problem)
    if steps:
        found += f" or --algorithm mirror-prox --iterations {steps} (certificate {reached:.1g})"
    return found


def _mirror_prox(problem: Problem) -> tuple[int, float]:
    """Steps mirror prox needs to converge in all contexts (0: too many), and its certificate."""
    method = MirrorProx()
    state = method.init(problem)
    cost = 2 * problem.P.numel()
    for steps in STEPS:
        if steps * cost > MOST_WORK:
            break
        while state.step < steps:
            state = method.step(problem, state)
        worst = float(_bound(problem, state.log_pi).nan_to_num(torch.inf).max())
        if worst <= CONVERGED:
            return steps, worst
    return 0, torch.inf


def _bound(problem: Problem, log_pi: Tensor) -> Tensor:
    return certificate_with_rounding(problem.P, log_pi, problem.log_mu, problem.tau)
