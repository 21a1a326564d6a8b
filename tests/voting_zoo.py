"""Small judges, data sets and networks for the tests of learning from votes."""

from __future__ import annotations

import torch

from bioplaus import Dataset, LeakyField, Settling

TIGHT = Settling(tolerance=1e-12, free_steps=3000, nudged_steps=3000, verify=False)
GOOD = Settling(tolerance=1e-5, free_steps=300, nudged_steps=300, verify=False)


def field(sizes: tuple[int, ...] = (6, 12, 8, 5), seed: int = 0) -> LeakyField:
    """A small network with feedback at 90 degrees, float64."""
    g = torch.Generator().manual_seed(seed)
    return LeakyField(list(sizes), "tanh", feedback_gain=0.5, generator=g, dtype=torch.float64)


def contexts(c: int = 5, copies: int = 4, size: int = 6, seed: int = 0) -> Dataset:
    """Noisy images of c contexts, each with its own pattern."""
    g = torch.Generator().manual_seed(seed)
    pattern = torch.randn(c, size, generator=g, dtype=torch.float64)
    y = torch.arange(c).repeat(copies)
    noise = 0.1 * torch.randn(len(y), size, generator=g, dtype=torch.float64)
    return Dataset.from_arrays(pattern[y] + noise, y, pattern, torch.arange(c))


def random_table(c: int, k: int, seed: int = 0) -> torch.Tensor:
    """Random games [c, k, k] with uniform win probabilities, float64."""
    g = torch.Generator().manual_seed(seed)
    upper = torch.rand(c, k, k, generator=g, dtype=torch.float64).triu(1)
    return upper + (1 - upper.mT).tril(-1) + 0.5 * torch.eye(k, dtype=torch.float64)
