"""A vector field given as a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bioplaus.calling import answered
from bioplaus.errors import InputError
from bioplaus.fields.base import VectorField
from bioplaus.fields.linearisation import AbstractLinearisation

Mu = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]


class FunctionField(VectorField):
    """ds/dt = mu(parameters, x, s), any differentiable torch code; projected if there is a box.

    With box=(lo, hi), ds/dt = clip(s + mu, lo, hi) - s. A state on a wall of the box stays there if
    mu pushes it outward.

    Attributes:
        mu: the formula, (parameters, x [B, ...], s [B, n]) -> [B, n]. It treats the rows of the
            batch independently and follows the dtype and device of its arguments.
        energy: (parameters, x, s) -> [B], the energy whose gradient flow is mu, if there is one;
            see `hopfield.py`.
        holomorphic: whether mu extends analytically to complex states.

    Examples:
        >>> def mu(p, x, s):
        ...     return torch.tanh(s @ p["w"].T + x @ p["u"].T) - s
        >>> weights = {"w": 0.3 * torch.eye(5), "u": torch.ones(5, 3)}
        >>> FunctionField(mu, weights, n=5, n_output=2)
        FunctionField(mu, n=5, n_output=2, parameters=40)
    """

    def __init__(
        self,
        mu: Mu,
        parameters: Mapping[str, Tensor],
        *,
        n: int,
        n_output: int,
        input: int | tuple[int, ...] | None = None,
        box: tuple[float, float] | None = None,
        energy: Callable[[dict[str, Tensor], Tensor, Tensor], Tensor] | None = None,
        activity: Callable[[Tensor], Tensor] | None = None,
        partners: Mapping[str, str] | None = None,
        holomorphic: bool = False,
        depth: int = 4,
    ) -> None:
        """Set the formula.

        Args:
            mu, box, energy, holomorphic: see the class.
            parameters: theta, by name; all have one dtype.
            n: number of state variables.
            n_output: number of outputs, which are the last state variables.
            input: shape of a row of x, if it is to be checked; None accepts any.
            activity: rho(s), if the local rule is to use its change in place of that of s.
            partners: maps feedback parameters to those that they mirror, for rules that work on
                pairs.
            depth: number of steps in which a signal crosses the network; no phase ends earlier.

        Raises:
            InputError: an argument has the wrong type or is out of range; the message names it.
        """
        super().__init__(parameters, n=n, n_output=n_output, depth=depth)
        for name, value in (("mu", mu), ("energy", energy), ("activity", activity)):
            if value is not None and not callable(value):
                raise InputError(f"{name} is a {type(value).__name__}; give a function")
        if box is not None and not (len(box) == 2 and box[0] < box[1]):
            raise InputError(f"box={box} must be (lo, hi) with lo < hi")
        unknown = {*(partners or {}), *(partners or {}).values()} - set(self.parameters)
        if unknown:
            raise InputError(
                f"partners names {', '.join(sorted(unknown))}, which is no parameter; there are "
                f"{', '.join(self.parameters)}"
            )
        self.input = (input,) if isinstance(input, int) else input
        self.mu, self.energy, self._activity = mu, energy, activity
        self.box = None if box is None else (float(box[0]), float(box[1]))
        self._partners, self.holomorphic = dict(partners or {}), holomorphic

    @classmethod
    @answered
    def from_module(cls, module: torch.nn.Module, **settings: Any) -> FunctionField:
        """ds/dt = module(x, s), with the parameters of a module, which is not changed.

        Args:
            module: called with x and s; its buffers stay fixed.
            settings: `n`, `n_output` and the other arguments of the class.
        """

        def mu(parameters: dict[str, Tensor], x: Tensor, s: Tensor) -> Tensor:
            held = {name: b.to(s) if b.is_floating_point() else b for name, b in buffers.items()}
            return torch.func.functional_call(module, {**held, **parameters}, (x, s))

        mu.__name__ = type(module).__name__
        buffers = dict(module.named_buffers())
        weights = {name: p.detach().clone() for name, p in module.named_parameters()}
        return cls(mu, weights, **settings)

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.parameters.values())
        name = getattr(self.mu, "__name__", type(self.mu).__name__)
        return f"FunctionField({name}, n={self.n}, n_output={self.n_output}, parameters={count})"

    def field(self, x: Tensor, s: Tensor) -> Tensor:
        mu = self.mu(dict(self.parameters), x, s)
        if not isinstance(mu, Tensor) or mu.shape != s.shape:
            what = tuple(mu.shape) if isinstance(mu, Tensor) else type(mu).__name__
            raise InputError(
                f"mu gave {what} for states of shape {tuple(s.shape)}; it must give ds/dt of the "
                "same shape"
            )
        if self.box is None:
            return mu
        low, high = self.box
        moved = s + mu
        # unlike clamp, this has zero slope on the walls themselves
        inside = torch.where(moved <= low, torch.full_like(moved, low), moved)
        return torch.where(moved >= high, torch.full_like(moved, high), inside) - s

    def displacement(self, s: Tensor, d: Tensor) -> Tensor:
        return d if self._activity is None else self._activity(s + d) - self._activity(s)

    def displacement_slope(self, at: AbstractLinearisation) -> Tensor | None:
        return None if self._activity is None else super().displacement_slope(at)

    def partners(self) -> dict[str, str]:
        return dict(self._partners)

    def not_holomorphic(self) -> str | None:
        if self.box is not None:
            return "its box has corners"
        return (
            None
            if self.holomorphic
            else "this mu is not said to; FunctionField(..., holomorphic=True) says so"
        )
