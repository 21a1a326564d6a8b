"""Games with known answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nlhf.errors import InputError


@dataclass(frozen=True)
class Game:
    """A named preference game.

    Attributes:
        name: the name that `--game` accepts.
        actions: names of the actions.
        P: [K, K], float64.
        equilibrium: the Nash equilibrium without regularisation, [K], or None if not unique.
    """

    name: str
    actions: tuple[str, ...]
    P: Tensor
    equilibrium: Tensor | None


def _cycle(name: str, actions: tuple[str, ...], wins: list[float]) -> Game:
    """A cycle of three actions: action i beats action i + 1 (mod 3) with probability wins[i].

    With a = wins - 1/2, the equilibrium is proportional to (a_1, a_2, a_0): the probability of
    each action is proportional to the strength of the edge between the other two.
    """
    P = torch.full((3, 3), 0.5, dtype=torch.float64)
    for i, w in enumerate(wins):
        P[i, (i + 1) % 3], P[(i + 1) % 3, i] = w, 1 - w
    edge = torch.tensor([wins[1], wins[2], wins[0]], dtype=torch.float64) - 0.5
    return Game(name, actions, P, edge / edge.sum())


def _dice() -> Game:
    """Intransitive dice {2,4,9}, {1,6,8}, {3,5,7}: each beats the next 5 times out of 9."""
    faces = torch.tensor([[2, 4, 9], [1, 6, 8], [3, 5, 7]], dtype=torch.float64)
    P = (faces[:, None, :, None] > faces[None, :, None, :]).double().mean((2, 3))
    P = torch.where(torch.eye(3, dtype=torch.bool), 0.5, P)
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    return Game("intransitive-dice", ("2-4-9", "1-6-8", "3-5-7"), P, third)


def _elo() -> Game:
    """Four players 100 Elo points apart: transitive, so the equilibrium plays the best one."""
    ratings = torch.tensor([300.0, 200.0, 100.0, 0.0], dtype=torch.float64)
    P = torch.sigmoid((ratings[:, None] - ratings[None]) * math.log(10) / 400)
    best = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    return Game("elo", ("300", "200", "100", "0"), 0.5 * (P + 1 - P.T), best)


def three_raters(epsilon: float = 0.1) -> Game:
    """The paper's three raters: equilibrium (1/3 + e/2, 1/3 + e/2, 1/3 - e).

    The edges that yield it are proportional to (1/3 - e, 1/3 + e/2, 1/3 + e/2); the largest edge
    is a certain win.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 3.
    """
    if not 0 <= epsilon < 1 / 3:
        raise InputError(f"epsilon={epsilon} must lie in [0, 1/3)")
    edges = [1 / 3 - epsilon, 1 / 3 + epsilon / 2, 1 / 3 + epsilon / 2]
    wins = [0.5 + 0.5 * edge / max(edges) for edge in edges]
    return _cycle("three-raters", ("y1", "y2", "y3"), wins)


def _condorcet() -> Game:
    """Five actions on a circle, each certain to beat the next two: the equilibrium is uniform."""
    P = torch.full((5, 5), 0.5, dtype=torch.float64)
    for i in range(5):
        for ahead in (1, 2):
            P[i, (i + ahead) % 5], P[(i + ahead) % 5, i] = 1.0, 0.0
    return Game("condorcet-cycle", tuple("abcde"), P, torch.full((5,), 0.2, dtype=torch.float64))


_RPS = ("rock", "scissors", "paper")
GAMES: dict[str, Game] = {
    game.name: game
    for game in (
        _cycle("rock-paper-scissors", _RPS, [1.0, 1.0, 1.0]),
        _cycle("biased-rock-paper-scissors", _RPS, [0.9, 0.7, 0.6]),
        three_raters(),
        _dice(),
        _elo(),
        _condorcet(),
    )
}


def get_game(name: str) -> Game:
    """Look up a game by name.

    Raises:
        InputError: the name is unknown.
    """
    if name not in GAMES:
        raise InputError(f"game={name!r} is unknown; use one of {', '.join(GAMES)}, or a CSV file")
    return GAMES[name]


def random_games(n: int, k: int, generator: torch.Generator) -> Tensor:
    """Games with independent uniform win probabilities, [n, k, k], float64."""
    upper = torch.rand(n, k, k, generator=generator, dtype=torch.float64).triu(1)
    half = 0.5 * torch.eye(k, dtype=torch.float64)
    lower = (1 - upper.mT).tril(-1)
    return upper + lower + half


def random_policies(n: int, k: int, generator: torch.Generator) -> Tensor:
    """Policies uniform on the simplex, as log-probabilities [n, k], float64."""
    draws = -torch.rand(n, k, generator=generator, dtype=torch.float64).log()
    return (draws / draws.sum(-1, keepdim=True)).log()
