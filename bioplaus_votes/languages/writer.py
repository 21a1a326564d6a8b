"""A network that writes: each token is the answer to the last tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.fields import VectorField
from bioplaus.phases import Settling, free_phase
from bioplaus.solvers import Solution
from bioplaus_votes.languages.game import LanguageGame
from bridge.errors import InputError


@dataclass(frozen=True)
class Sight:
    """What a network sees of the tokens so far: the last `window`, and how many there are.

    Attributes:
        V, L: see `LanguageGame`.
        window: tokens that are seen, 1 to L - 1; with L - 1 all of them.
    """

    V: int
    L: int
    window: int

    def __post_init__(self) -> None:
        if not 1 <= self.window <= max(self.L - 1, 1):
            raise InputError(f"window={self.window} must lie in 1..{max(self.L - 1, 1)}")

    @property
    def size(self) -> int:
        """Numbers of an input."""
        return self.window * self.V + self.L

    def __call__(self, tokens: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Inputs [B, size] of the tokens so far [B, n]: one-hot, the newest first, and n."""
        b, n = tokens.shape
        x = torch.zeros(b, self.size, dtype=dtype, device=tokens.device)
        rows = torch.arange(b, device=tokens.device)
        for back in range(min(self.window, n)):
            x[rows, back * self.V + tokens[:, n - 1 - back]] = 1.0
        x[:, self.window * self.V + n] = 1.0
        return x


@torch.no_grad()
def write(
    field: VectorField,
    sight: Sight,
    texts: int,
    settling: Settling,
    generator: torch.Generator,
    mixture: float = 0.0,
) -> tuple[Tensor, list[Tensor], list[Solution]]:
    """Write texts, a token a free phase, the tokens so far clamped as its input.

    Args:
        field: the network.
        sight: what it sees.
        texts: how many.
        settling: of its phases.
        generator: draws the tokens.
        mixture: b of the uniform reference: tokens are drawn from softmax((1 - b) z).

    Returns:
        The tokens [B, L], and of each step the inputs [B, size] and the free phase.
    """
    tokens = torch.zeros(texts, 0, dtype=torch.long, device=field.device)
    inputs, phases = [], []
    for _ in range(sight.L):
        x = sight(tokens, field.dtype)
        free = free_phase(field, x, settling=settling)
        pi = torch.softmax((1 - mixture) * free.s[:, field.output], -1)
        token = torch.multinomial(pi, 1, generator=generator)
        tokens = torch.cat((tokens, token), 1)
        inputs.append(x)
        phases.append(free)
    return tokens, inputs, phases


def prefixes(game: LanguageGame, n: int) -> Tensor:
    """All beginnings of n tokens, [V^n, n], in the order of their numbers."""
    numbers = torch.arange(game.V**n)[:, None]
    powers = game.V ** torch.arange(n - 1, -1, -1)
    return numbers // powers % game.V


@torch.no_grad()
def conditionals(
    field: VectorField, sight: Sight, game: LanguageGame, settling: Settling, rows: int = 2000
) -> list[Tensor]:
    """log pi(token | beginning) of every beginning, by its length: L tensors [V^n, V]."""
    found = []
    for n in range(game.L):
        parts = [
            free_phase(field, sight(part, field.dtype), settling=settling).s[:, field.output]
            for part in prefixes(game, n).to(field.device).split(rows)
        ]
        found.append(torch.log_softmax(torch.cat(parts).double().cpu(), -1))
    return found


def joined(log_next: list[Tensor]) -> Tensor:
    """log pi of every text [V^L] from its conditionals."""
    total = log_next[0].flatten()
    for step in log_next[1:]:
        total = (total[:, None] + step).flatten()
    return total


def token_mixture(log_next: list[Tensor], weight: float) -> Tensor:
    """The token-level mixture with a uniform reference over texts: normalised at each prefix.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7.
    """
    return joined([torch.log_softmax((1 - weight) * step, -1) for step in log_next])


def sequence_mixture(log_next: list[Tensor], weight: float) -> Tensor:
    """The sequence-level mixture with a uniform reference: normalised once, over texts.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 6.
    """
    return torch.log_softmax((1 - weight) * joined(log_next), -1)
