"""Tied weights, and the energy that their dynamics descend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bioplaus.calling import answered
from bioplaus.errors import InputError
from bioplaus.fields.base import VectorField
from bioplaus.fields.connections import Connection, Dense, Tied, Wire
from bioplaus.fields.connections.tied import TiedWire
from bioplaus.fields.function import FunctionField
from bioplaus.fields.layer import Layer
from bioplaus.fields.layered import LayeredField

UNIT_SLOPES = ("linear", "hard-sigmoid", "relu", "relu6")
"""Activations whose slope is 0 or 1, and which are the identity where it is 1."""

POINTS = 32
"""Points of the Gauss-Legendre quadrature of s rho'(s); exact for polynomials up to degree 63."""


@answered
def hopfield(
    sizes: Sequence[int],
    activation: Any = "tanh",
    *,
    gain: float = 0.5,
    coordinates: str = "activity",
    weights: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LayeredField:
    """Make layers with tied weights: forward.k from below, and its transpose from above.

    Its energy is `energy(field, x, s)`.

    Args:
        sizes: units per layer, the input first.
        activation: activation of the hidden layers; the output is linear, or in the box if
            they are.
        gain: scale of the weights.
        coordinates, weights, generator, dtype, device: see `LayeredField`.

    Raises:
        InputError: a size is out of range.

    Examples:
        >>> hopfield([4, 6, 3])
        LayeredField(4 -> 6 -> 3, connections=3, parameters=51)
    """
    if len(sizes) < 2:
        raise InputError(f"sizes={list(sizes)} must be two or more whole numbers")
    last = "clipped" if activation == "clipped" else "linear"
    kinds = [activation] * (len(sizes) - 2) + [last]
    layers = [Layer(size, kind) for size, kind in zip(sizes[1:], kinds, strict=True)]
    connections: list[Connection] = [Dense(k, k + 1, gain=gain) for k in range(len(layers))]
    connections += [Tied(k + 1, k) for k in range(1, len(layers))]
    return LayeredField(
        sizes[0],
        layers,
        connections,
        coordinates=coordinates,
        weights=weights,
        generator=generator,
        dtype=dtype,
        device=device,
    )


@answered
@torch.no_grad()
def energy(field: VectorField, x: Tensor, s: Tensor) -> Tensor:
    """The energy E of each row, [B], which decreases along ds/dt = mu(x, s).

    E = sum_i int_0^s_i z rho_i'(z) dz - 1/2 r^T W r - b^T r - r^T V x, r = rho(s): dE/ds_i =
    -rho_i'(s_i) mu_i, so that dE/dt = -sum_i rho_i'(s_i) mu_i^2 <= 0 for nondecreasing rho. In a
    box, rho is the identity and dE/dt = (s - W s - b - V x) . (clip(...) - s) <= 0.

    Args:
        field: a layered field with tied weights, or a `FunctionField` with an `energy`.
        x: the clamped input, one per row.
        s: states, [B, n]; a layer with a box must be within it.

    Raises:
        InputError: the field has no energy; one line that says why.

    Source: Hopfield 1984 (PNAS 81), equation 7; Scellier and Bengio 2017 (arXiv 1602.05179).
    """
    if isinstance(field, FunctionField) and field.energy is not None:
        return field.energy(dict(field.parameters), x, s)
    if reason := without_energy(field):
        raise InputError(reason)
    assert isinstance(field, LayeredField)
    drive, parts = field.drive(x), field.split(s)
    r = [field.activity(own, k) for k, own in enumerate(parts)]
    total = s.new_zeros(len(s))
    for k, own in enumerate(parts):
        base = field.base(drive, k)
        whole = field.current(r, drive, k)
        outer = torch.zeros_like(own) if base is None else base.expand_as(own)
        # halved, since a current between two layers counts at both ends
        total += _leak(field.specs[k], own).sum(1) - (r[k] * (whole + outer)).sum(1) / 2
    return total


def without_energy(field: VectorField) -> str | None:
    """One line on why a field has no energy; None if it has one."""
    name = type(field).__name__
    if isinstance(field, FunctionField):
        return None if field.energy else "this FunctionField was given no energy=..."
    if not isinstance(field, LayeredField):
        return f"a {name} says nothing of an energy; use a LayeredField with tied weights"
    paired = {w.other.connection.name for w in _wires(field) if isinstance(w, TiedWire)}
    for wire in _wires(field):
        c = wire.connection
        if not c.linear:
            return f"the pooling of {c.name} is not linear: there is no energy; use average pooling"
        if c.source == 0 or isinstance(c, Tied) or c.name in paired or _is_symmetric(wire):
            continue
        return (
            f"{c.name} has no tied partner the other way, so that mu is no gradient; use "
            f"Tied({c.target}, {c.source}) for the way back"
        )
    return None


def _wires(field: LayeredField) -> list[Wire]:
    return [wire for into in field.wires.into for _, wire in into]


def _is_symmetric(wire: Wire) -> bool:
    """Whether a layer acts on itself by a symmetric matrix."""
    c = wire.connection
    if c.source != c.target or not isinstance(c, Dense):
        return False
    weight = c.effective(wire.weight)
    return torch.equal(weight, weight.T)


def _leak(layer: Layer, s: Tensor) -> Tensor:
    """int_0^s z rho'(z) dz of each unit."""
    rho = layer.rho
    if rho.name in UNIT_SLOPES:  # z = rho(z) wherever it has a slope
        return rho(s).square() / 2
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    total = torch.zeros_like(s)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        z = s * float(node)
        total += float(weight) * z * rho.slope(z)
    return total * s
