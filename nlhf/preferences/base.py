"""The common form of all preferences: one game per context."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nlhf.games import Game


@dataclass(frozen=True)
class Preferences:
    """Games over the same actions, one per context x.

    Attributes:
        name: name of the source.
        contexts: the prompts, one per game.
        actions: names of the K actions.
        P: [C, K, K], float64, P(i > j | x).
        counts: comparisons of each pair, [C, K, K], or None where unknown.
        never_compared: pairs of actions that both occur in a context but were not compared there,
            as (context, action, action).
    """

    name: str
    contexts: tuple[str, ...]
    actions: tuple[str, ...]
    P: Tensor
    counts: Tensor | None = None
    never_compared: tuple[tuple[str, str, str], ...] = ()

    @property
    def present(self) -> Tensor:
        """Which actions occur in which context, [C, K]."""
        if self.counts is None:
            return torch.ones_like(self.P[..., 0], dtype=torch.bool)
        return (self.counts > 0).any(-1)


def of_game(game: Game) -> Preferences:
    """Convert a built-in game to preferences with one context."""
    return Preferences(game.name, (game.name,), game.actions, game.P[None])
