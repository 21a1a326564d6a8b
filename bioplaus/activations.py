"""Activation functions rho, their derivatives and differences, and which are holomorphic."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from bioplaus.calling import Answered
from bioplaus.errors import InputError
from bioplaus.registry import find

GROUP = "bioplaus.activations"
"""The entry-point group under which installed packages register activations."""

Elementwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Activation(metaclass=Answered):
    """An elementwise nonlinearity `rho`; only `name` and `value` are required.

    Attributes:
        name: the name used in configs.
        value: `s -> rho(s)`, any torch code.
        derivative: `s -> rho'(s)`; None computes it by autograd.
        change: `(s, d) -> rho(s + d) - rho(s)`, accurate for a small d; None subtracts.
        into: `(s, out) -> rho(s)`, written to `out`, which may be `s`; None copies the value.
        holomorphic: whether `rho` extends analytically to a complex neighbourhood of the real
            line, which the `holomorphic` estimator needs.
        bounds: the range of `rho`; None if it is unbounded above or below.

    Examples:
        >>> swish = Activation("swish", lambda s: s * torch.sigmoid(s))
        >>> swish.slope(torch.zeros(2))
        tensor([0.5000, 0.5000])
    """

    name: str
    value: Elementwise
    derivative: Elementwise | None = None
    change: Callable[[Tensor, Tensor], Tensor] | None = None
    into: Callable[[Tensor, Tensor], Tensor] | None = None
    holomorphic: bool = False
    bounds: tuple[float, float] | None = None

    def __call__(self, s: Tensor, out: Tensor | None = None) -> Tensor:
        """Compute rho(s), in the shape of `s`; it is differentiable if `out` is None."""
        if out is None:
            return self.value(s)
        return out.copy_(self.value(s)) if self.into is None else self.into(s, out)

    def slope(self, s: Tensor) -> Tensor:
        """rho'(s)."""
        if self.derivative is not None:
            return self.derivative(s)
        return vjp(self.value, s)[1](torch.ones_like(s))[0]

    def difference(self, s: Tensor, d: Tensor) -> Tensor:
        """rho(s + d) - rho(s)."""
        return self.value(s + d) - self.value(s) if self.change is None else self.change(s, d)

    def __reduce__(self) -> Any:
        # pickle built-in activations by name, because lambdas cannot be pickled
        known = ACTIVATIONS.get(self.name) is self
        return (get_activation, (self.name,)) if known else super().__reduce__()


def _sigmoid_slope(s: Tensor) -> Tensor:
    y = torch.sigmoid(s)
    return y * (1 - y)


def _tanh_change(s: Tensor, d: Tensor) -> Tensor:
    # tanh(a + b) = (tanh a + tanh b) / (1 + tanh a tanh b)
    here, moved = torch.tanh(s), torch.tanh(d)
    return moved * (1 - here * here) / (1 + here * moved)


def _sigmoid_change(s: Tensor, d: Tensor) -> Tensor:
    return 0.5 * _tanh_change(0.5 * s, 0.5 * d)


def _softplus(s: Tensor) -> Tensor:
    # log(1 + exp(s)) without overflow; the complex branch serves small imaginary parts
    if s.is_complex():
        return torch.log(1 + torch.exp(s))
    return torch.logaddexp(s, torch.zeros((), dtype=s.dtype, device=s.device))


def _softplus_change(s: Tensor, d: Tensor) -> Tensor:
    if s.is_complex() or d.is_complex():
        return torch.log(1 + torch.expm1(d) * torch.sigmoid(s))
    return torch.log1p(torch.expm1(d) * torch.sigmoid(s))


def _bent(low: float, high: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the `change` of a clamp to [low, high]; between the corners it is d itself."""

    def change(s: Tensor, d: Tensor) -> Tensor:
        if low == 0.0 and high == float("inf"):
            floor = -s
            return torch.maximum(d, floor) - floor.clamp_min(0.0)
        floor, ceiling = low - s, high - s
        rest = torch.clamp(torch.zeros_like(s), floor, ceiling)
        return torch.clamp(d, floor, ceiling) - rest

    return change


def _between(low: float, high: float) -> Elementwise:
    return lambda s: ((s > low) & (s < high)).to(s.dtype)


LEAK = 0.01
"""Slope of leaky-relu below zero."""

_RELU_CHANGE = _bent(0.0, float("inf"))

ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation(
            "tanh",
            torch.tanh,
            lambda s: 1 - torch.tanh(s) ** 2,
            _tanh_change,
            lambda s, out: torch.tanh(s, out=out),
            holomorphic=True,
            bounds=(-1.0, 1.0),
        ),
        Activation(
            "sigmoid",
            torch.sigmoid,
            _sigmoid_slope,
            _sigmoid_change,
            lambda s, out: torch.sigmoid(s, out=out),
            holomorphic=True,
            bounds=(0.0, 1.0),
        ),
        Activation(
            "sigmoid-4s-2",
            lambda s: torch.sigmoid(4 * s - 2),
            lambda s: 4 * _sigmoid_slope(4 * s - 2),
            lambda s, d: _sigmoid_change(4 * s - 2, 4 * d),
            lambda s, out: torch.sigmoid(torch.mul(s, 4.0, out=out).sub_(2.0), out=out),
            holomorphic=True,
            bounds=(0.0, 1.0),
        ),
        Activation(
            "hard-sigmoid",
            lambda s: torch.clamp(s, 0.0, 1.0),
            _between(0.0, 1.0),
            _bent(0.0, 1.0),
            lambda s, out: torch.clamp(s, 0.0, 1.0, out=out),
            bounds=(0.0, 1.0),
        ),
        Activation("softplus", _softplus, torch.sigmoid, _softplus_change, holomorphic=True),
        Activation(
            "linear",
            lambda s: s,
            torch.ones_like,
            lambda s, d: d,
            lambda s, out: out.copy_(s),
            holomorphic=True,
        ),
        Activation("relu", torch.relu, lambda s: (s > 0).to(s.dtype), _RELU_CHANGE),
        Activation(
            "relu6",
            torch.nn.functional.relu6,
            _between(0.0, 6.0),
            _bent(0.0, 6.0),
            lambda s, out: torch.clamp(s, 0.0, 6.0, out=out),
            bounds=(0.0, 6.0),
        ),
        Activation(
            "leaky-relu",
            lambda s: torch.nn.functional.leaky_relu(s, LEAK),
            lambda s: LEAK + (1 - LEAK) * (s > 0).to(s.dtype),
            lambda s, d: LEAK * d + (1 - LEAK) * _RELU_CHANGE(s, d),
        ),
        # the derivative of s sigmoid(s); Elfwing et al. 2018 (arXiv 1702.03118)
        Activation(
            "dsilu",
            lambda s: torch.sigmoid(s) * (1 + s * (1 - torch.sigmoid(s))),
            lambda s: _sigmoid_slope(s) * (2 + s * (1 - 2 * torch.sigmoid(s))),
            holomorphic=True,
        ),
    )
}


def get_activation(activation: str | Activation | Elementwise) -> Activation:
    """Look up an activation by name; return an object as it is, and wrap a function.

    Raises:
        InputError: the name is unknown, or the value is none of these.
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        return get_activation(find("activation", activation, ACTIVATIONS, GROUP))
    if callable(activation) and not inspect.isclass(activation):
        return Activation(getattr(activation, "__name__", "custom"), activation)
    raise InputError(
        f"activation={activation!r} is a {type(activation).__name__}; give a name, a function of a "
        "tensor or an Activation"
    )
