"""Make a field's Jacobian more symmetric: the gradient of its asymmetry, by autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import vjp

from bioplaus.products import pushforward

EXACT_UP_TO = 32
"""Up to this state size the asymmetry is exact; above, it is estimated with PROBES."""

PROBES = 4
"""Number of random vectors per row."""


def symmetrising_update(
    mu: Callable[[Mapping[str, Tensor], Tensor], Tensor],
    parameters: Mapping[str, Tensor],
    s: Tensor,
    generator: torch.Generator | None,
) -> dict[str, Tensor]:
    """-d/dtheta of the mean over rows of ||J_s - J_s^T||_F^2 / 2 at fixed states.

    ||M||_F^2 = E ||M e||^2 for random signs e; the sum of ||M e||^2 over all unit vectors is exact.

    Args:
        mu: mu(theta, s), [B, n].
        parameters: theta, by name.
        s: the states, [B, n].
        generator: source of the signs.

    Source: Laborieux and Zenke 2024 (arXiv 2309.02214), section 4; Hutchinson 1990.
    """
    n = s.shape[1]
    if n <= EXACT_UP_TO:
        probes, weight = torch.eye(n, dtype=s.dtype, device=s.device), 1.0
    else:
        coins = torch.randint(0, 2, (PROBES, n), generator=generator)
        probes, weight = (2 * coins - 1).to(s), 1.0 / PROBES

    def loss(theta: Mapping[str, Tensor]) -> Tensor:
        total = s.new_zeros(())
        for e in probes:
            v = e.expand_as(s)
            forth = pushforward(lambda z: mu(theta, z), s)(v)
            back = vjp(lambda z: mu(theta, z), s)[1](v)[0]
            total = total + (forth - back).square().sum()
        return 0.5 * weight * total / len(s)

    value, pull = vjp(loss, dict(parameters))[:2]
    return {name: -slope for name, slope in pull(torch.ones_like(value))[0].items()}
