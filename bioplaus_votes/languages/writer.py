"""A network that writes: each token is its answer to the preceding tokens."""

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
        window: number of tokens that are seen, 1 to L - 1; L - 1 shows all of them.
    """

    V: int
    L: int
    window: int

    def __post_init__(self) -> None:
        if not 1 <= self.window <= max(self.L - 1, 1):
            raise InputError(f"window={self.window} must lie in 1..{max(self.L - 1, 1)}")

    @property
    def size(self) -> int:
        """Number of input units."""
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
    """Write texts: one free phase per token, with the preceding tokens clamped as input.

    Args:
        field: the network.
        sight: what the network sees.
        texts: number of texts.
        settling: settings of the free phases.
        generator: draws the tokens.
        mixture: b of the uniform reference: tokens are drawn from softmax((1 - b) z).

    Returns:
        The tokens [B, L], and for each step the inputs [B, size] and the free phase.
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
    """All prefixes of n tokens, [V^n, n], in the order of their indices."""
    numbers = torch.arange(game.V**n)[:, None]
    powers = game.V ** torch.arange(n - 1, -1, -1)
    return numbers // powers % game.V


@torch.no_grad()
def conditionals(
    field: VectorField, sight: Sight, game: LanguageGame, settling: Settling, rows: int = 2000
) -> list[Tensor]:
    """log pi(token | prefix) for every prefix, by prefix length: L tensors [V^n, V]."""
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
    """The token-level mixture over texts with a uniform reference: normalised at each prefix.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 7.
    """
    return joined([torch.log_softmax((1 - weight) * step, -1) for step in log_next])


def sequence_mixture(log_next: list[Tensor], weight: float) -> Tensor:
    """The sequence-level mixture over texts with a uniform reference: normalised once.

    Source: Munos et al. 2023 (arXiv 2312.00886), section 6.
    """
    return torch.log_softmax((1 - weight) * joined(log_next), -1)
