"""One root seed, and as many independent named streams of random numbers as a run has uses."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from bridge.errors import InputError

if TYPE_CHECKING:
    import torch


def seed_for(root_seed: int, name: str) -> int:
    """Derive the seed of one named stream: the first 63 bits of sha256("root_seed:name").

    Streams with different names are independent, so that a new use of randomness (a new name)
    leaves the numbers of all others as they were. The value is the same on every machine.

    Args:
        root_seed: the run's seed, a whole number >= 0.
        name: the stream, e.g. "weights" or "batches".

    Returns:
        A whole number in [0, 2^63).

    Raises:
        InputError: root_seed is no whole number >= 0.
    """
    if isinstance(root_seed, bool) or not isinstance(root_seed, int) or root_seed < 0:
        raise InputError(f"seed={root_seed!r} is no seed; use a whole number >= 0")
    digest = hashlib.sha256(f"{root_seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(root_seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the random generator of one named stream.

    Args:
        root_seed: the run's seed, a whole number >= 0.
        name: the stream, e.g. "weights" or "batches".
        device: where the numbers are drawn; CPU and GPU draw different numbers.

    Returns:
        A fresh generator, seeded with `seed_for(root_seed, name)`.
    """
    import torch

    return torch.Generator(device).manual_seed(seed_for(root_seed, name))
