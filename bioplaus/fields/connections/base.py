"""Connections between layers: a current from a weight and activities, and its derivatives."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.func import vjp

from bioplaus.arrays import to_array
from bioplaus.calling import Answered
from bioplaus.comparing import same
from bioplaus.errors import InputError
from bioplaus.products import pushforward

Shape = tuple[int, ...]
"""Number of units of a layer, or channels x height x width."""


def units(shape: Shape) -> int:
    """The number of units of a layer, for channels x height x width their product."""
    return math.prod(shape)


@dataclass(frozen=True, eq=False, repr=False)
class Connection(metaclass=Answered):
    """A current into the layer `target` from the activities of the layer `source`.

    Layers are numbered from 1; 0 is the clamped input. A subclass defines the shape of its weight
    and the current. The transposed current, the linear part at a state and the local update follow
    by `torch.func`. `wire` may return a faster implementation.

    Attributes:
        source, target: the layers.
        name: name of the weight among the parameters; by default `forward.k` from layer k-1 to k,
            `feedback.k` from k+1 to k, `lateral.k` within k, else `between.i.j`.
        gain: weights are drawn from N(0, gain^2 / fan_in).
        trainable: whether the weight learns; a fixed one is not a parameter.
        mask: 0 or 1, broadcast to the weight's shape: which synapses exist.
        signs: Dale's law: +1 or -1 for each unit (or channel) of the source, the sign of all its
            weights. Weights are drawn with it, and a step that would cross zero stops there.
    """

    source: int
    target: int
    name: str = ""
    gain: float = 1.0
    trainable: bool = True
    mask: Tensor | None = None
    signs: Tensor | None = None

    linear: ClassVar[bool] = True
    """Whether the current is linear in the activities."""

    def __post_init__(self) -> None:
        for which, least in (("source", 0), ("target", 1)):
            value = getattr(self, which)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{which}={value!r} must be a layer's number, {least} or more")
        if not 0 < self.gain < math.inf:
            raise InputError(f"gain={self.gain} must be positive and finite")
        if not self.name:
            object.__setattr__(self, "name", _default_name(self.source, self.target))
        for which in ("mask", "signs"):
            given: Any = getattr(self, which)
            if given is not None and not isinstance(given, Tensor):
                made = torch.from_numpy(to_array(which, given))
                object.__setattr__(self, which, made)
        if self.signs is not None and not bool((self.signs.abs() == 1).all()):
            raise InputError(f"signs of {self.name} must be +1 or -1, one a unit of the source")

    @abstractmethod
    def weight_shape(self, source: Shape, target: Shape) -> Shape:
        """The shape of the weight between layers of these shapes.

        Raises:
            InputError: it cannot connect them; the message names the shape that it would give.
        """

    @abstractmethod
    def current(self, weight: Tensor, r: Tensor) -> Tensor:
        """The current [B, *target] from activities [B, *source]; differentiable by autograd."""

    def fan_in(self, weight: Shape) -> int:
        """The number of synapses onto one unit."""
        return math.prod(weight[1:])

    def sources(self, weight: Shape) -> tuple[int, ...]:
        """The weight's shape with 1 in every dimension except that of the source's units."""
        return (1, weight[1], *(1 for _ in weight[2:]))

    def mirrored(self, weight: Tensor) -> Tensor:
        """The weight in the layout of a connection in the opposite direction."""
        return weight.T

    def draw(self, shape: Shape, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
        """Draw an initial weight."""
        weight = torch.randn(shape, generator=generator, dtype=dtype)
        weight *= self.gain / math.sqrt(self.fan_in(shape))
        return self.constrain(weight, flip=True)

    def constrain(self, weight: Tensor, *, flip: bool = False) -> Tensor:
        """Apply the mask and the signs to a weight in place; entries of the wrong sign become 0.

        Args:
            weight: a weight in the connection's shape.
            flip: whether to flip wrong signs instead, as in the initial draw.
        """
        if self.mask is not None:
            weight.mul_(self.mask.to(weight))
        if self.signs is not None:
            signs = self.signs.to(weight).view(self.sources(tuple(weight.shape)))
            weight.copy_(weight.abs() * signs if flip else (weight * signs).clamp_min_(0) * signs)
        return weight

    def effective(self, weight: Tensor) -> Tensor:
        """The weight with its mask applied."""
        return weight if self.mask is None else weight * self.mask.to(weight)

    def require_fitting(self, weight: Shape) -> None:
        """Reject a mask or signs that do not fit the weight."""
        if self.mask is not None:
            try:
                fits = torch.broadcast_shapes(tuple(self.mask.shape), weight) == weight
            except RuntimeError:
                fits = False
            if not fits:
                raise InputError(
                    f"the mask of {self.name} is of shape {tuple(self.mask.shape)}, and does not "
                    f"fit its weight's {weight}"
                )
        if self.signs is not None and self.signs.numel() != weight[1]:
            raise InputError(
                f"signs of {self.name} has {self.signs.numel()} entries for {weight[1]} units of "
                "the source; give one each"
            )

    def wire(self, weight: Tensor, source: Shape, target: Shape) -> Wire:
        """Bind the connection to a weight, between layers of these shapes."""
        return Wire(self, weight, source, target)

    def description(self) -> dict[str, Any] | None:
        """Describe the connection, without mask and signs, in JSON values; None if it is code."""
        if not type(self).__module__.startswith(f"{__package__}."):
            return None
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"kind": type(self).__name__} | {
            name: value for name, value in own.items() if name not in ("mask", "signs")
        }

    def __repr__(self) -> str:
        arguments = []
        for f in fields(self):
            value, default = getattr(self, f.name), f.default
            if isinstance(value, Tensor):
                arguments.append(f"{f.name}={list(value.shape)}")
            elif value != default and f.name not in ("source", "target"):
                arguments.append(f"{f.name}={value!r}")
        return f"{type(self).__name__}({', '.join([*self.ends(), *arguments])})"

    def ends(self) -> list[str]:
        """The constructor's arguments that name the layers."""
        return [str(self.source), str(self.target)]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def __hash__(self) -> int:
        return hash((type(self), self.source, self.target, self.name))


@dataclass(eq=False)
class Wire:
    """A connection with its weight: products between flat activities and flat currents.

    Attributes:
        connection: the connection.
        weight: its weight, a parameter or a fixed tensor.
        source, target: shapes of the layers.
    """

    connection: Connection
    weight: Tensor
    source: Shape
    target: Shape

    def formula(self, weight: Tensor, r: Tensor) -> Tensor:
        """The connection's current from flat activities [B, n_source], flat."""
        connection = self.connection
        current = connection.current(connection.effective(weight), r.view(len(r), *self.source))
        return current.reshape(len(r), units(self.target))

    def add(self, base: Tensor | None, r: Tensor, out: Tensor | None = None) -> Tensor:
        """base + current, [B, n_target].

        Args:
            base: broadcast to the current; None means zero. It may be `out`.
            r: activities of the source, [B, n_source].
            out: receives the sum; without it, the result is differentiable.
        """
        current = self.formula(self.weight, r)
        if base is not None:
            return torch.add(base, current, out=out)
        return current if out is None else out.copy_(current)

    def back(self, v: Tensor) -> Tensor:
        """W^T v, [B, n_source], for linear wires only; differentiable by autograd."""
        rest = v.new_zeros(len(v), units(self.source))
        return vjp(lambda r: self.formula(self.weight, r), rest)[1](v)[0]

    def add_transposed(self, base: Tensor | None, v: Tensor, out: Tensor) -> Tensor:
        """base + W^T v, [B, n_source], written to `out`; for linear wires only."""
        back = self.back(v)
        return out.copy_(back) if base is None else torch.add(base, back, out=out)

    def update(self, r: Tensor, post: Tensor) -> Tensor:
        """(d current / d weight)^T post, summed over the batch, in the weight's shape.

        Args:
            r: activities of the source, [B, n_source].
            post: [B, n_target].
        """
        pull = vjp(lambda weight: self.formula(weight, r), self.weight)[1]
        return pull(post)[0]

    def update_into(self, out: Tensor, r: Tensor, post: Tensor) -> None:
        """`update`, written to `out`."""
        out.copy_(self.update(r, post))

    def at(self, r: Tensor) -> Wire:
        """The linear part of the current at activities `r` [B, n_source]."""
        return self if self.connection.linear else Tangent(*_parts(self), r)

    def take(self, rows: Tensor | slice) -> Wire:
        """The same wire for some of the rows for which it was linearised."""
        return self

    def with_weight(self, weight: Tensor) -> Self:
        """The same wire with another weight."""
        return replace(self, weight=weight)


@dataclass(eq=False)
class Tangent(Wire):
    """The linear part of a nonlinear wire at activities `r` [B, n_source]."""

    r: Tensor

    def add(self, base: Tensor | None, r: Tensor, out: Tensor | None = None) -> Tensor:
        current = pushforward(lambda z: self.formula(self.weight, z), self.r)(r)
        if base is not None:
            return torch.add(base, current, out=out)
        return current if out is None else out.copy_(current)

    def back(self, v: Tensor) -> Tensor:
        return vjp(lambda z: self.formula(self.weight, z), self.r)[1](v)[0]

    def at(self, r: Tensor) -> Wire:
        return self

    def take(self, rows: Tensor | slice) -> Wire:
        return replace(self, r=self.r[rows])


def _parts(wire: Wire) -> tuple[Connection, Tensor, Shape, Shape]:
    return wire.connection, wire.weight, wire.source, wire.target


def _default_name(source: int, target: int) -> str:
    if source == target:
        return f"lateral.{target}"
    known = {target - 1: "forward", target + 1: "feedback"}
    return f"{known[source]}.{target}" if source in known else f"between.{source}.{target}"
