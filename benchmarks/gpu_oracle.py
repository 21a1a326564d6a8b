"""Equilibria on a GPU: agreement with the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nlhf import solve_equilibrium
from nlhf.games import random_games
from nlhf.oracle import solve_and_tell
from nlhf.regularised_game import uniform_reference


def equilibria(actions: int) -> Callable[[str], dict[str, Any]]:
    """The largest difference of the oracle's probabilities from the CPU's."""

    def work(device: str) -> dict[str, Any]:
        P = random_games(50, actions, torch.Generator().manual_seed(0))
        tau = torch.logspace(0, -3, 50, dtype=torch.float64)
        here = solve_equilibrium(P, uniform_reference(P), tau)
        P = P.to(device)
        there, how = solve_and_tell(P, uniform_reference(P), tau.to(device))
        return {"off": float((there.cpu().exp() - here.exp()).abs().max()), "how": how}

    return work
