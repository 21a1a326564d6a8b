"""One root seed, from which every use of randomness in a run gets its own named stream."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from bridge.errors import InputError

if TYPE_CHECKING:
    import torch


def seed_for(root_seed: int, name: str) -> int:
    """Derive the seed of a named stream: the first 63 bits of sha256("root_seed:name").

    Streams with different names are independent, so that a new use of randomness (a new name) does
    not change the numbers of the others. The value is the same on every machine.

    Args:
        root_seed: the run's seed, an integer >= 0.
        name: the stream, e.g. "weights" or "batches".

    Returns:
        An integer in [0, 2^63).

    Raises:
        InputError: root_seed is not an integer >= 0.
    """
    if isinstance(root_seed, bool) or not isinstance(root_seed, int) or root_seed < 0:
        raise InputError(f"seed={root_seed!r} is no seed; use a whole number >= 0")
    digest = hashlib.sha256(f"{root_seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(root_seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the random generator of a named stream.

    Args:
        root_seed: the run's seed, an integer >= 0.
        name: the stream, e.g. "weights" or "batches".
        device: where the numbers are drawn; CPU and GPU draw different numbers.

    Returns:
        A fresh generator, seeded with `seed_for(root_seed, name)`.
    """
    import torch

    return torch.Generator(device).manual_seed(seed_for(root_seed, name))
