"""Turn layers and connections into a field: parameters, wires and groups."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bioplaus.activations import ACTIVATIONS
from bioplaus.errors import InputError
from bioplaus.fields.connections import Connection, Shape, Tied, Wire
from bioplaus.fields.connections.tied import TiedWire
from bioplaus.fields.connections.wires import Wires
from bioplaus.fields.layer import Layer

Tensors = dict[str, Tensor]


def require_joined(connections: Iterable[Connection], layers: int) -> None:
    """Reject connections to layers that do not exist, and duplicate names.

    Args:
        connections: connections of a field.
        layers: number of its layers, without the input.

    Raises:
        InputError: the message names the connection.
    """
    names = set()
    for connection in connections:
        for which in ("source", "target"):
            if getattr(connection, which) > layers:
                raise InputError(
                    f"{which}={getattr(connection, which)} of {connection.name} names no "
                    f"layer; the last is {layers}"
                )
        if connection.name in names:
            raise InputError(
                f"two connections are named {connection.name!r}; give one a name of its own"
            )
        names.add(connection.name)


def first_weights(
    connections: Iterable[Connection],
    layers: Sequence[Layer],
    shapes: Sequence[Shape],
    known: Mapping[str, Tensor],
    generator: torch.Generator | None,
    dtype: torch.dtype,
) -> tuple[Tensors, Tensors]:
    """The parameters of a field and its fixed weights; unknown ones are drawn.

    Args:
        connections: in the order in which they are drawn.
        layers: the layers, without the input.
        shapes: shapes of the input and of the layers.
        known: weights and biases by name; they come first among the parameters.
        generator: source of the random numbers.
        dtype: dtype of the drawn weights.

    Raises:
        InputError: a weight does not fit the shape of its connection, or belongs to none.
    """
    learnt, fixed = dict(known), {}
    for c in connections:
        if isinstance(c, Tied):
            continue
        shape = c.weight_shape(shapes[c.source], shapes[c.target])
        c.require_fitting(shape)
        weight = known.get(c.name)
        if weight is None:
            weight = c.draw(shape, generator, dtype)
        _require_shape(c.name, weight, shape)
        if c.trainable:
            learnt[c.name] = weight
        else:
            learnt.pop(c.name, None)
            fixed[c.name] = weight
    biases = {f"bias.{k}": layer.size[0] for k, layer in enumerate(layers, 1) if layer.bias}
    for name, size in biases.items():
        learnt.setdefault(name, torch.zeros(size, dtype=dtype))
        _require_shape(name, learnt[name], (size,))
    unknown = set(learnt) - {c.name for c in connections} - set(biases)
    if unknown:
        raise InputError(
            f"weights has {', '.join(sorted(unknown))}, which no connection and no bias is named"
        )
    return learnt, fixed


def _require_shape(name: str, weight: Tensor, shape: Shape) -> None:
    if tuple(weight.shape) != shape:
        raise InputError(f"the weight {name} is of shape {tuple(weight.shape)}, not {shape}")


def wired(
    connections: Sequence[Connection], shapes: Sequence[Shape], weights: Mapping[str, Tensor]
) -> Wires:
    """The connections with their weights.

    Args:
        connections: connections of a field.
        shapes: shapes of the input and of the layers.
        weights: weights by the connection's name.

    Raises:
        InputError: a tied connection has no partner.
    """
    wires: dict[str, Wire] = {
        c.name: c.wire(weights[c.name], shapes[c.source], shapes[c.target])
        for c in connections
        if not isinstance(c, Tied)
    }
    for c in connections:
        if isinstance(c, Tied):
            wires[c.name] = _tied(c, connections, wires)
    return Wires(
        [
            [(c.source - 1, wires[c.name]) for c in connections if c.target == k]
            for k in range(1, len(shapes))
        ]
    )


def _tied(tied: Tied, connections: Sequence[Connection], wires: Mapping[str, Wire]) -> Wire:
    ends = (tied.target, tied.source)
    named = [c.name for c in connections if (c.source, c.target) == ends]
    of = tied.of or next((name for name in named if name in wires), "")
    if of not in named or of not in wires:
        raise InputError(
            f"{tied.name} is tied to no connection from layer {ends[0]} to {ends[1]}; add "
            "one, or name it: Tied(..., of=...)"
        )
    if not wires[of].connection.linear:
        raise InputError(
            f"{tied.name} cannot be tied to {of}, whose pooling is not linear; use average "
            "pooling or kernels of its own (Conv(..., feedback=True))"
        )
    return tied.tie(wires[of])


def groups_of(layers: int, connections: Iterable[Connection]) -> tuple[tuple[int, ...], ...]:
    """Partition layers greedily into few groups whose layers do not act on one another."""
    joined = {(c.source - 1, c.target - 1) for c in connections if c.source}
    groups: list[list[int]] = []
    for k in range(layers):
        for group in groups:
            if not any((k, j) in joined or (j, k) in joined for j in group):
                group.append(k)
                break
        else:
            groups.append([k])
    return tuple(tuple(group) for group in groups)


def feedback_of(wires: Wires) -> list[str]:
    """Weights into a layer from itself or a later one; for tied ones the shared weight."""
    found = [
        wire.other.connection.name if isinstance(wire, TiedWire) else wire.connection.name
        for k, into in enumerate(wires.into)
        for j, wire in into
        if j >= k
    ]
    return list(dict.fromkeys(found))


def partners_of(connections: Iterable[Connection], weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Map each learned feedback weight to the feedforward one of mirrored shape."""
    own = [c for c in connections if c.trainable and not isinstance(c, Tied)]
    found: dict[str, str] = {}
    for forward, back in itertools.permutations(own, 2):
        ends = (back.target, back.source)
        if 0 < forward.source < forward.target and (forward.source, forward.target) == ends:
            w, b = weights[forward.name], weights[back.name]
            if forward.mirrored(w).shape == b.shape:
                found.setdefault(back.name, forward.name)
    return found


def described(
    input: Shape, layers: Iterable[Layer], connections: Iterable[Connection], coordinates: str
) -> dict[str, Any] | None:
    """Describe a layered field in JSON values; None if a part of it is the user's code."""
    of_layers = [layer.description() for layer in layers]
    of_connections = [c.description() for c in connections]
    if None in of_layers or None in of_connections:
        return None
    return {
        "kind": "LayeredField",
        "input": list(input),
        "layers": of_layers,
        "connections": of_connections,
        "coordinates": coordinates,
    }


def marks(connections: Iterable[Connection]) -> Tensors:
    """The masks and signs of connections, by the connection's name."""
    return {
        f"{c.name}/{what}": value
        for c in connections
        for what in ("mask", "signs")
        if (value := getattr(c, what)) is not None
    }


def bent(layers: Iterable[Layer], connections: Iterable[Connection]) -> str | None:
    """The part of a field without an analytic extension to complex states; None if all have one."""
    for k, layer in enumerate(layers, 1):
        if layer.box is not None or not layer.rho.holomorphic:
            name = "hard-sigmoid" if layer.box is not None else layer.rho.name
            why = "has corners"
            if layer.box is None and layer.rho is not ACTIVATIONS.get(name):
                why = "is not said to extend to them (Activation(..., holomorphic=True))"
            smooth = ", ".join(name for name, a in ACTIVATIONS.items() if a.holomorphic)
            return (
                f"activation={name!r} of layer {k} {why}; use one of {smooth}, in membrane "
                "coordinates"
            )
    pooled = next((c.name for c in connections if not c.linear), None)
    return pooled and f"the pooling of {pooled} is not analytic; use average pooling"
