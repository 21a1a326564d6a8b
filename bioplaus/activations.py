"""Activation functions rho, their derivatives, and which of them are holomorphic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bioplaus.errors import InputError


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity `rho` with its first derivative.

    Attributes:
        name: the name used in configs.
        holomorphic: whether `rho` extends analytically to a complex neighbourhood of the real
            line, which the `holomorphic` estimator needs.
        bounds: the range of `rho`, or None where it is unbounded on a side.
        apply: `(s, out) -> rho(s)`, written into `out` (which may be `s`) unless that is None.
        slope: `s -> rho'(s)`.
    """

    name: str
    holomorphic: bool
    bounds: tuple[float, float] | None
    apply: Callable[[Tensor, Tensor | None], Tensor]
    slope: Callable[[Tensor], Tensor]

    def __call__(self, s: Tensor, out: Tensor | None = None) -> Tensor:
        """rho(s), of the shape of `s`; without `out`, autograd can go through it."""
        return self.apply(s, out)

    def __reduce__(self) -> Any:
        # the functions of the known ones are no pickle's business
        known = ACTIVATIONS.get(self.name) is self
        return (get_activation, (self.name,)) if known else super().__reduce__()


def _steep_sigmoid(s: Tensor, out: Tensor | None) -> Tensor:
    return torch.sigmoid(torch.mul(s, 4.0, out=out).sub_(2.0), out=out)


def _identity(s: Tensor, out: Tensor | None) -> Tensor:
    return s if out is None else out.copy_(s)


def _sigmoid_slope(s: Tensor) -> Tensor:
    y = torch.sigmoid(s)
    return y * (1 - y)


def _softplus(s: Tensor, out: Tensor | None) -> Tensor:
    # log(1 + exp(s)) without overflow; the complex branch serves small imaginary parts
    if s.is_complex():
        return torch.log(1 + torch.exp(s), out=out)
    return torch.logaddexp(s, torch.zeros((), dtype=s.dtype, device=s.device), out=out)


def _inside(s: Tensor) -> Tensor:
    return ((s > 0) & (s < 1)).to(s.dtype)


ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation(
            "tanh",
            True,
            (-1.0, 1.0),
            lambda s, out: torch.tanh(s, out=out),
            lambda s: 1 - torch.tanh(s) ** 2,
        ),
        Activation(
            "sigmoid", True, (0.0, 1.0), lambda s, out: torch.sigmoid(s, out=out), _sigmoid_slope
        ),
        Activation(
            "sigmoid-4s-2",
            True,
            (0.0, 1.0),
            _steep_sigmoid,
            lambda s: 4 * _sigmoid_slope(4 * s - 2),
        ),
        Activation(
            "hard-sigmoid",
            False,
            (0.0, 1.0),
            lambda s, out: torch.clamp(s, 0.0, 1.0, out=out),
            _inside,
        ),
        Activation("softplus", True, None, _softplus, lambda s: torch.sigmoid(s)),
        Activation(
            "linear", True, None, lambda s, out: s if out is None else out.copy_(s), torch.ones_like
        ),
    )
}


def get_activation(name: str) -> Activation:
    """Look up an activation by name.

    Raises:
        InputError: the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"activation={name!r} is unknown; use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
