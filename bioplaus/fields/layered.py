"""Layers of leaky integrators with connections of any kind."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.fields import joining
from bioplaus.fields.base import VectorField
from bioplaus.fields.connections import Connection, Shape, Tied, units
from bioplaus.fields.connections.tied import TiedWire
from bioplaus.fields.connections.wires import Wires
from bioplaus.fields.formula import require_one_formula
from bioplaus.fields.layer import Layer
from bioplaus.fields.linearisation import AbstractLinearisation, LayeredLinearisation
from bioplaus.fields.parameters import Parameters

COORDINATES = ("membrane", "activity")


class LayeredField(VectorField):
    """mu_i(x, s) = sum_j W_ij rho_j(s_j) + b_i - s_i; in a box, clip(sum_j W_ij s_j + b_i) - s_i.

    Time is in units of the membrane time constant. The connections determine W: they may be dense,
    convolutional, sparse or lateral, skip layers, or form cycles; see `Connection`.

    Attributes:
        specs: the layers, without the input.
        layers: the columns of `s` of each layer, output last.
        groups: groups of layers (by index) that do not act on one another, so that a group can be
            settled at once while the others are held fixed.
        connections: the connections, in the order given.
        coordinates: which change the local rule sees: that of the state (`membrane`), or that of
            rho(s) (`activity`), which is exact for tied weights with linear outputs, where the
            former is not.

    A subclass may not replace the methods that state mu; the class statement then raises.

    Source: Scellier et al. 2018 (arXiv 1808.04873), section 4.

    Examples:
        >>> from bioplaus.fields import Conv, Dense
        >>> LayeredField(
        ...     (1, 8, 8),
        ...     [Layer((4, 4, 4), "clipped"), Layer(10, "linear")],
        ...     [Conv(0, 1, pool="average"), Dense(1, 2), Dense(2, 1, gain=0.5)],
        ... )
        LayeredField((1, 8, 8) -> (4, 4, 4) -> 10, connections=3, parameters=1330)
    """

    # views of the tensors, which a pickle would restore as copies
    derived = ("_wires", "_biases", "_storage")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        require_one_formula(cls, LayeredField)

    def __init__(
        self,
        input: int | Shape,
        layers: Sequence[Layer],
        connections: Sequence[Connection],
        *,
        coordinates: str = "membrane",
        weights: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Draw the weights; biases start at zero.

        Args:
            input: shape of the clamped input: units or (channels, height, width).
            layers: the layers without the input, the output last.
            connections: connections between them; index 0 is the input.
            coordinates: `membrane` or `activity`.
            weights: known weights and biases by name, in the order of the parameters; the rest is
                drawn.
            generator: source of the random numbers (on the CPU); None means torch's global one.
            dtype: float32 or float64.
            device: where the parameters live.

        Raises:
            InputError: layers and connections do not fit together; the message names which.
        """
        if coordinates not in COORDINATES:
            raise InputError(f"coordinates={coordinates!r}: use one of {', '.join(COORDINATES)}")
        if not layers:
            raise InputError("give at least one layer beside the input")
        self.input = Layer(input).size
        self.specs, self.connections = tuple(layers), tuple(connections)
        self.coordinates = coordinates
        self.shapes = (self.input, *(layer.size for layer in layers))
        bounds = list(itertools.accumulate((units(s) for s in self.shapes[1:]), initial=0))
        self.layers = tuple(slice(a, b) for a, b in itertools.pairwise(bounds))
        self._widths = [units(shape) for shape in self.shapes[1:]]
        joining.require_joined(self.connections, len(self.specs))
        drawn, fixed = joining.first_weights(
            self.connections, self.specs, self.shapes, dict(weights or {}), generator, dtype
        )
        self._fixed = {name: w.to(device) for name, w in fixed.items()}
        super().__init__(
            {name: w.to(device) for name, w in drawn.items()},
            n=bounds[-1],
            n_output=units(self.shapes[-1]),
            depth=len(self.specs),
        )
        self.groups = joining.groups_of(len(self.specs), self.connections)
        self._wire(self._parameters)

    def __repr__(self) -> str:
        sizes = " -> ".join(str(s[0]) if len(s) == 1 else str(s) for s in self.shapes)
        count = sum(p.numel() for p in self.parameters.values())
        return (
            f"{type(self).__name__}({sizes}, connections={len(self.connections)}, "
            f"parameters={count})"
        )

    def with_parameters(self, parameters: Mapping[str, Tensor]) -> Self:
        other = copy.copy(self)
        like = next(iter(parameters.values()))
        other._fixed = {k: v.to(like) for k, v in self._fixed.items()}
        other._wire(parameters)
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._wire(self.parameters)

    def description(self) -> dict[str, Any] | None:
        parts = (self.shapes[0], self.specs, self.connections, self.coordinates)
        return joining.described(*parts) if type(self) is LayeredField else None

    def layout(self) -> dict[str, Tensor]:
        return joining.marks(self.connections)

    def _wire(self, parameters: Mapping[str, Tensor]) -> None:
        """Store the parameters, and precompute the terms of each layer's current.

        Looking up and transposing costs as much as a small product, so it is done once. It is
        repeated if a tensor gets new storage (`tensor.data = ...`).
        """
        self._parameters = Parameters(parameters)
        self._storage = self._parameters.addresses()
        self._wires = joining.wired(self.connections, self.shapes, self._fixed | self._parameters)
        self._biases = [self._parameters.get(f"bias.{k}") for k in range(1, len(self.shapes))]
        self._driven = [k for k, into in enumerate(self._wires.into) if any(j < 0 for j, _ in into)]
        self._boxed = [layer.box is not None for layer in self.specs]
        self._linear = [layer.rho.name == "linear" for layer in self.specs]

    def is_linear(self, layer: int | None = None) -> bool:
        """Whether rho is the identity on the state space of a layer (None: of all layers)."""
        return all(self._linear) if layer is None else self._linear[layer]

    def is_boxed(self, layer: int) -> bool:
        """Whether a layer's states are bounded by a box."""
        return self._boxed[layer]

    def acts_on_itself(self, layer: int) -> bool:
        """Whether a layer has lateral connections."""
        return any(j == layer for j, _ in self._wires.into[layer])

    def split(self, s: Tensor) -> list[Tensor]:
        """The columns of each layer, as views."""
        return list(torch.split_with_sizes(s, self._widths, 1))  # takes half the time of slicing

    @property
    def wires(self) -> Wires:
        """The connections with their weights, also those from the input."""
        return self._wires

    def wires_at(self, r: Sequence[Tensor]) -> Wires:
        """The connections linearised at activities `r`, one tensor per layer."""
        return self._wires.at(r)

    def field(self, x: Tensor, s: Tensor) -> Tensor:
        parts, x = self.split(s), x.flatten(1)
        r = [x, *(layer.rho(own) for layer, own in zip(self.specs, parts, strict=True))]
        mu = []
        for k, own in enumerate(parts):
            a = own.new_zeros(own.shape)
            if (bias := self._spread_bias(k, len(x))) is not None:
                a = a + bias
            for j, wire in self._wires.into[k]:
                a = a + wire.formula(wire.weight, r[j + 1])
            box = self.specs[k].box
            mu.append((a if box is None else torch.clamp(a, *box)) - own)
        return torch.cat(mu, 1)

    def drive(self, x: Tensor) -> Tensor:
        """Bias plus input current of the layers that receive input, concatenated."""
        if self._storage is not None and self._storage != self._parameters.addresses():
            self._wire(self._parameters)
        x = self._flat(x)
        parts = []
        for k in self._driven:
            base = self._spread_bias(k, len(x))
            for j, wire in self._wires.into[k]:
                if j < 0:
                    base = wire.add(base, x)
            assert base is not None
            parts.append(base.to(x.dtype))  # products may have lowered the precision
        if not parts:  # no layer receives input, but the batch size must still be known
            return x.new_zeros(len(x), 0)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _flat(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        if flat.shape[1] != units(self.shapes[0]):
            size = self.shapes[0][0] if len(self.shapes[0]) == 1 else self.shapes[0]
            raise InputError(f"x is of shape {tuple(x.shape)}; its rows must be of {size} inputs")
        return flat

    def _spread_bias(self, k: int, rows: int) -> Tensor | None:
        """The bias of each unit of a layer, [n_k]: the same in all `rows`."""
        return self.specs[k].spread(self._biases[k])

    def base(self, drive: Tensor, layer: int) -> Tensor | None:
        """The part of a layer's current not from other layers: drive, bias or None."""
        if layer not in self._driven:
            return self._spread_bias(layer, len(drive))
        if len(self._driven) == 1:
            return drive
        start = sum(units(self.specs[k].size) for k in self._driven if k < layer)
        return drive[:, start : start + units(self.specs[layer].size)]

    def initial_state(self, drive: Tensor) -> Tensor:
        """The initial state of the free phase, [B, n]: a feedforward pass without feedback."""
        s = drive.new_empty(len(drive), self.n)
        parts, r = self.split(s), []
        for k, own in enumerate(parts):
            base = self.base(drive, k)
            own.copy_(base) if base is not None else own.zero_()
            for j, wire in self._wires.within[k]:
                if j < k:
                    wire.add(own, r[j], own)
            self.confine(own, k)
            r.append(self.activity(own, k))
        return s

    def activity(self, s: Tensor, layer: int, out: Tensor | None = None) -> Tensor:
        """rho(s) of one layer's columns [B, n_layer]."""
        if self._linear[layer]:
            return s if out is None else out.copy_(s)
        return self.specs[layer].rho(s, out)

    def activities(self, s: Tensor) -> Tensor:
        """rho(s) of all layers, [B, n]; `s` itself where rho is the identity everywhere."""
        if self.is_linear():
            return s
        return torch.cat([self.activity(own, k) for k, own in enumerate(self.split(s))], 1)

    def current(
        self,
        r: Sequence[Tensor],
        drive: Tensor,
        layer: int,
        out: Tensor | None = None,
        wires: Wires | None = None,
    ) -> Tensor:
        """The input current of one layer, sum_j W_ij r_j + b_i.

        Args:
            r: activities, one tensor per layer; only the layers that act on `layer` are read.
            drive: the result of `drive(x)`.
            layer: index into `layers`.
            out: [B, n_layer], receives the current. It must not be the layer's own activities if
                the layer acts on itself. Without it, the current is differentiable.
            wires: the connections; by default those of the field.
        """
        return (wires or self._wires).sum(self.base(drive, layer), layer, r, out, len(drive))

    def transposed_current(
        self, v: Sequence[Tensor], layer: int, out: Tensor, wires: Wires | None = None
    ) -> Tensor:
        """sum_j W_ji v_j of one layer, written to `out` [B, n_layer]; one `v` per layer."""
        base = None
        for k, wire in (wires or self._wires).leaving[layer]:
            base = wire.add_transposed(base, v[k], out)
        return out.zero_() if base is None else out

    def confine(self, s: Tensor, layer: int) -> Tensor:
        """Clip a layer's columns to its box, if there is one, in place."""
        box = self.specs[layer].box
        return s if box is None else s.clamp_(*box)

    def confine_state(self, s: Tensor) -> Tensor:
        for k, own in enumerate(self.split(s)):
            self.confine(own, k)
        return s

    def driven(self, drive: Tensor, s: Tensor) -> Tensor:
        parts = self.split(s)
        r = [self.activity(own, k) for k, own in enumerate(parts)]
        return torch.cat(
            [self.confine(self.current(r, drive, k), k).sub_(own) for k, own in enumerate(parts)], 1
        )

    def explicit_field(self, parameters: Mapping[str, Tensor], x: Tensor, s: Tensor) -> Tensor:
        other = self.with_parameters(parameters)
        return other.driven(other.drive(x), s)

    def layer_slope(self, own: Tensor, current: Tensor, layer: int) -> Tensor:
        """D of one layer, [B, n_layer]: rho'(s); with a box, 1 where the current lies inside it.

        A unit in a box follows its current, not its own state. A state near a wall therefore does
        not determine the slope.

        Args:
            own: the layer's columns of the state.
            current: its `current` at that state, read only if there is a box.
            layer: index into `layers`.
        """
        if (box := self.specs[layer].box) is not None:
            return ((current > box[0]) & (current < box[1])).to(own.dtype)
        return torch.ones_like(own) if self._linear[layer] else self.specs[layer].rho.slope(own)

    def slope(self, s: Tensor, drive: Tensor) -> Tensor:
        """D of all layers, [B, n]; see `layer_slope`."""
        out, parts = torch.empty_like(s), self.split(s)
        r = [self.activity(own, k) for k, own in enumerate(parts)]
        for k, there in enumerate(self.split(out)):
            current = self.current(r, drive, k, there) if self._boxed[k] else there
            there.copy_(self.layer_slope(parts[k], current, k))
        return out

    def linearise(self, s: Tensor, drive: Tensor) -> AbstractLinearisation:
        r = [self.activity(own, k) for k, own in enumerate(self.split(s))]
        return LayeredLinearisation(
            s, self.slope(s, drive), self.wires_at(r), self.layers, tuple(self._boxed)
        )

    def partners(self) -> dict[str, str]:
        return joining.partners_of(self.connections, self.parameters)

    def feedback(self) -> list[str]:
        return [name for name in joining.feedback_of(self._wires) if name in self.parameters]

    def lacks_partners(self) -> bool:
        back = [c for c in self.connections if c.source >= c.target and not isinstance(c, Tied)]
        return bool(back) and not self.partners()

    def tied_pairs(self) -> int:
        return sum(isinstance(c, Tied) for c in self.connections)

    def mirror(self, feedback: str, values: Tensor) -> Tensor:
        return next(c for c in self.connections if c.name == feedback).mirrored(values)

    def constrain(self) -> None:
        """Apply the masks and signs of the weights after an optimizer's step."""
        for c in self.connections:
            if c.name in self.parameters:
                c.constrain(self.parameters[c.name])

    def not_holomorphic(self) -> str | None:
        return joining.bent(self.specs, self.connections)

    def displacement(self, s: Tensor, d: Tensor) -> Tensor:
        """What the local rule sees: d, or in activity coordinates the change of rho(s)."""
        if self.coordinates != "activity":
            return d
        out = d.clone()
        for k, here in enumerate(self.layers):
            if not self._linear[k]:
                out[:, here] = self.specs[k].rho.difference(s[:, here], d[:, here])
        return out

    def displacement_slope(self, at: AbstractLinearisation) -> Tensor | None:
        if self.coordinates != "activity":
            return None
        assert isinstance(at, LayeredLinearisation)
        return at.slope

    def local_update(
        self, x: Tensor, s: Tensor, delta: Tensor, out: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        if out is None:
            out = {name: torch.empty_like(p) for name, p in self.parameters.items()}
        r = [self._flat(x), *self.split(self.activities(s))]
        posts = self.split(delta * (1.0 / len(x)))
        tied = []
        for k, into in enumerate(self._wires.into):
            for j, wire in into:
                if isinstance(wire, TiedWire):
                    tied.append((k, j, wire))
                elif wire.connection.name in out:
                    wire.update_into(out[wire.connection.name], r[j + 1], posts[k])
            if (bias := out.get(f"bias.{k + 1}")) is not None:
                self.specs[k].sum_into(bias, posts[k])
        for k, j, wire in tied:
            if wire.other.connection.name in out:
                out[wire.other.connection.name].add_(wire.update(r[j + 1], posts[k]))
        return out
