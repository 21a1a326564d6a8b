"""Layered fields as NIR graphs: convolutions, skip and lateral connections, cycles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bioplaus.activations import ACTIVATIONS
from bioplaus.errors import InputError
from bioplaus.fields import Connection, Conv, Dense, Lateral, Layer, LayeredField, Tied, Wire
from bioplaus.fields.connections import units
from bioplaus.interchange.graphs import FORMAT, KEY, UNSAID, array, load_nir

KINDS: dict[str, type[Connection]] = {c.__name__: c for c in (Dense, Conv, Lateral, Tied)}
LARGEST = 30_000_000
"""Largest number of entries of a matrix that represents feedback through pooling."""


def layered_to_nir(field: LayeredField, tau: float, phases: Mapping[str, Any] | None = None) -> Any:
    """A layered field as a graph; see `to_nir`."""
    nir = load_nir()
    require_nodes(field)
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array(field.shapes[0])})}
    edges, kept = [], {}
    for k, shape in enumerate(field.shapes[1:], 1):
        ones = np.ones(shape, _numpy_dtype(field.dtype))
        nodes[f"layer_{k}"] = nir.LI(tau=tau * ones, r=ones, v_leak=0 * ones)
    for k, into in enumerate(field.wires.into, 1):
        bias = field.parameters.get(f"bias.{k}")
        if bias is not None and not into:
            raise InputError(f"layer {k} has a bias, and nothing reaches it; leave the layer out")
        for j, wire in into:
            chain = ["input" if j < 0 else f"layer_{j + 1}"]
            for suffix, node in _nodes(nir, wire, field.specs[k - 1], bias):
                chain.append(wire.connection.name.replace(".", "_") + suffix)
                nodes[chain[-1]] = node
            edges += list(zip(chain, [*chain[1:], f"layer_{k}"], strict=True))
            kept |= _kept(wire)
            bias = None if bias is None else torch.zeros_like(bias)
    nodes["output"] = nir.Output({"output": np.array(field.shapes[-1])})
    edges.append((f"layer_{len(field.specs)}", "output"))
    about = json.dumps(_about(field, tau, phases))
    return nir.NIRGraph(nodes, edges, metadata={KEY: about, **kept})


def require_nodes(field: LayeredField) -> None:
    """Reject fields that a graph cannot express or that could not be read back.

    Raises:
        InputError: the message names the layer or the connection, and the remedy.
    """
    for k, layer in enumerate(field.specs, 1):
        if ACTIVATIONS.get(layer.rho.name) is not layer.rho:
            raise InputError(
                f"layer {k} has an activation of its own ({layer.rho.name}), which could not be "
                f"read back; use one of {', '.join(ACTIVATIONS)}"
            )
    for c in field.connections:
        if KINDS.get(type(c).__name__) is not type(c):
            raise InputError(
                f"{c.name} is a {type(c).__name__}, for which NIR has no node; use one of "
                f"{', '.join(KINDS)}"
            )
        if not c.linear:
            raise InputError(
                f"the pooling of {c.name} has no node in NIR; use average pooling or none"
            )


def layered_from_nir(graph: Any, about: Mapping[str, Any]) -> LayeredField:
    """Read a field from a graph made by `layered_to_nir`."""
    dtype = {"float32": torch.float32, "float64": torch.float64}[about["dtype"]]
    layers = [Layer(_shape(each.pop("shape")), **each) for each in map(dict, about["layers"])]
    connections = [_connection(graph, each) for each in about["connections"]]
    found: dict[str, Tensor] = {}
    for c in connections:
        if not isinstance(c, Tied):
            found[c.name] = _tensor(_weight(graph, c))
    for name in about["parameters"]:
        if name.startswith("bias."):
            found[name] = _tensor(_bias(graph, layers, connections, int(name[5:])))
    weights = {name: found.pop(name) for name in about["parameters"]} | found
    field = LayeredField(
        _shape(about["input"]),
        layers,
        connections,
        coordinates=about["coordinates"],
        weights=weights,
        dtype=dtype,
    )
    _require_same(graph, layered_to_nir(field, about["tau"]))
    return field


def _nodes(nir: Any, wire: Wire, layer: Layer, bias: Tensor | None) -> Iterator[tuple[str, Any]]:
    """The nodes of a connection in order, with the suffixes of their names."""
    c, source = wire.connection, wire.source
    if isinstance(c, Conv) and (not c.feedback or _is_turned(c)):
        weight = array(c.effective(wire.weight))
        if c.feedback:
            weight = _turned(weight)
        yield (
            "",
            nir.Conv2d(
                input_shape=source[1:],
                weight=weight,
                stride=(c.stride, c.stride),
                padding=(_padding(c), _padding(c)),
                dilation=(1, 1),
                groups=1,
                bias=np.zeros(len(weight), weight.dtype) if bias is None else array(bias),
            ),
        )
        if c.pool == "average":
            window = np.array([c.window, c.window])
            yield "_pool", nir.AvgPool2d(kernel_size=window, stride=window, padding=0 * window)
        return
    if len(source) == 3:
        shape = {"input": np.array(source)}
        yield "_flat", nir.Flatten(input_type=shape, start_dim=0, end_dim=-1)
    matrix = _matrix(wire)
    offset = layer.spread(bias)
    zero = np.zeros(len(matrix), matrix.dtype)
    yield "", nir.Affine(matrix, zero if offset is None else array(offset))


def _is_turned(c: Conv) -> bool:
    """Whether a feedback connection is itself a convolution with flipped kernels."""
    return c.window == 1 and c.stride == 1 and c.padding < c.kernel


def _padding(c: Conv) -> int:
    return c.kernel - 1 - c.padding if c.feedback else c.padding


def _turned(kernels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(kernels[:, :, ::-1, ::-1].swapaxes(0, 1))


def _matrix(wire: Wire) -> np.ndarray:
    """W [n_target, n_source] of a linear wire."""
    c, size = wire.connection, (units(wire.target), units(wire.source))
    if isinstance(c, Dense):
        return array(c.effective(wire.weight))
    if size[0] * size[1] > LARGEST:
        raise InputError(
            f"{c.name} would be a matrix of {size[0]} x {size[1]} in NIR, which has no node for "
            f"a way back through pooling or strides; use smaller layers (up to {LARGEST:,} entries)"
        )
    eye = torch.eye(size[1], dtype=wire.weight.dtype, device=wire.weight.device)
    return array(wire.add(None, eye).T)


def _kept(wire: Wire) -> dict[str, np.ndarray]:
    """The parts of a connection that its nodes lack: masks, and kernels within a matrix."""
    c, kept = wire.connection, {}
    if c.mask is not None:
        kept[f"{KEY}:mask:{c.name}"] = array(c.mask)
    if isinstance(c, Conv) and c.feedback and not _is_turned(c):
        kept[f"{KEY}:{c.name}"] = array(c.effective(wire.weight))
    return kept


def _about(field: LayeredField, tau: float, phases: Mapping[str, Any] | None) -> dict[str, Any]:
    layers = [
        {
            "shape": layer.size,
            "activation": layer.activation if layer.activation == "clipped" else layer.rho.name,
            "box": layer.box,
            "bias": layer.bias,
        }
        for layer in field.specs
    ]
    return {
        "format": FORMAT,
        "kind": "layered",
        "input": field.shapes[0],
        "layers": layers,
        "connections": [_description(c) for c in field.connections],
        "parameters": list(field.parameters),
        "coordinates": field.coordinates,
        "dtype": str(field.dtype).removeprefix("torch."),
        "tau": tau,
        "phases": dict(phases or {}),
        "not_expressed_in_nir": UNSAID,
    }


def _description(c: Connection) -> dict[str, Any]:
    settings = {k: v for k, v in vars(c).items() if k not in ("mask", "signs", "linear")}
    signs = None if c.signs is None else c.signs.tolist()
    return {"class": type(c).__name__, "signs": signs, **settings}


def _connection(graph: Any, description: Mapping[str, Any]) -> Connection:
    settings = dict(description)
    kind, signs = KINDS[settings.pop("class")], settings.pop("signs")
    mask = graph.metadata.get(f"{KEY}:mask:{settings['name']}")
    settings["signs"] = None if signs is None else torch.tensor(signs)
    settings["mask"] = None if mask is None else _tensor(mask)
    if kind is Tied:
        del settings["signs"], settings["mask"]
    if kind is Lateral:
        source = settings.pop("source")
        del settings["target"]
        return Lateral(source, **settings)
    return kind(**settings)


def _weight(graph: Any, c: Connection) -> np.ndarray:
    if isinstance(c, Conv) and c.feedback and not _is_turned(c):
        return graph.metadata[f"{KEY}:{c.name}"]
    weight = graph.nodes[c.name.replace(".", "_")].weight
    return _turned(weight) if isinstance(c, Conv) and c.feedback else weight


def _bias(graph: Any, layers: list[Layer], connections: list[Connection], k: int) -> np.ndarray:
    """The bias of layer k, stored in its first connection."""
    first = next(c for c in connections if c.target == k)
    node, shape = graph.nodes[first.name.replace(".", "_")], layers[k - 1].size
    bias = np.asarray(node.bias)
    if len(shape) == 3 and not hasattr(node, "stride"):
        return bias.reshape(shape[0], -1)[:, 0]
    return bias


def _require_same(graph: Any, expected: Any) -> None:
    """Reject a graph that contradicts its metadata."""
    if sorted(map(tuple, graph.edges)) != sorted(map(tuple, expected.edges)):
        raise InputError("this NIR graph's edges are not those that its metadata say")
    for name, node in expected.nodes.items():
        for part, value in vars(node).items():
            if not isinstance(value, (np.ndarray, tuple, int)) or part == "input_shape":
                continue
            got = getattr(graph.nodes[name], part)
            if np.shape(got) != np.shape(value) or not np.allclose(got, value, rtol=1e-5):
                raise InputError(
                    f"this NIR graph's {name} has another {part} than its metadata say"
                )


def _shape(axes: Any) -> int | tuple[int, ...]:
    return axes[0] if len(axes) == 1 else tuple(axes)


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values))


def _numpy_dtype(dtype: torch.dtype) -> Any:
    return torch.zeros(0, dtype=dtype).numpy().dtype
