"""Warn of bfloat16 on a processor that has to emulate it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SIZE = 512
"""Rows and columns of the matrix whose product with some rows is timed."""
SLOWER = 1.5
"""How many times as long as in float32 a product must take for a warning."""


def bfloat16_doubt(
    settings: Any, device: str, clock: Callable[[], float] = time.perf_counter
) -> str | None:
    """Say how much slower bfloat16 is than float32, if a run on the CPU uses it and it is slower.

    Args:
        settings: the config; `precision`, `products` and `mixed_precision` are looked at.
        device: "cpu" or "cuda".
        clock: gives seconds.
    """
    asked = [
        f"{name}={value if isinstance(value, str) else 'true'}"
        for name in ("precision", "products", "mixed_precision")
        if (value := getattr(settings, name, None)) in ("bfloat16", True)
    ]
    if device != "cpu" or not asked:
        return None
    ratio = _seconds("bfloat16", clock) / _seconds("float32", clock)
    if ratio < SLOWER:
        return None
    return (
        f"{asked[0]}: this processor emulates bfloat16; a product takes {ratio:.0f} times as long "
        "as in float32. Leave it out to be faster"
    )


def _seconds(dtype: str, clock: Callable[[], float]) -> float:
    """The shortest of three times of a product, without the first one."""
    import torch

    kind = getattr(torch, dtype)
    x, weights = torch.ones(SIZE // 8, SIZE, dtype=kind), torch.ones(SIZE, SIZE, dtype=kind)
    times = []
    for _ in range(4):
        began = clock()
        torch.nn.functional.linear(x, weights)
        times.append(clock() - began)
    return max(min(times[1:]), 1e-9)
