"""The oracle as a method: Newton's method with continuation in tau, in one step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nlhf.algorithms.base import AbstractAlgorithm, Problem, State
from nlhf.oracle import solve_equilibrium


@dataclass(frozen=True)
class Exact(AbstractAlgorithm):
    """pi = pi*, the fixed point of BR, found in the first step.

    Source: `nlhf.oracle.solve_equilibrium`.
    """

    name = "exact"
    asks = False

    def step(self, problem: Problem, state: State) -> State:
        solved = state.memory.get("tau")
        if solved is not None and torch.equal(solved, problem.tau):
            return State(state.log_pi, state.step + 1, state.memory)
        found = solve_equilibrium(problem.P, problem.log_mu, problem.tau, throw=False)
        log_pi = found.to(state.log_pi.dtype).expand_as(state.log_pi)
        return State(log_pi, state.step + 1, {"tau": problem.tau.clone()})
