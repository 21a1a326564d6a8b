"""Layered fields in NIR: the graph means the field, and what goes out comes back to the bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bioplaus.activations import Activation
from bioplaus.errors import InputError
from bioplaus.fields import Conv, Dense, Lateral, Layer, LayeredField, Tied
from bioplaus.interchange import from_nir, in_steps, read_nir, to_nir, write_nir
from tests.graphs import convolutional, dale, gated, sparse, tied

nir = pytest.importorskip("nir")
FIELDS = {
    "conv": lambda: convolutional("none", "linear"),
    "pooled": lambda: convolutional("average", "linear"),
    "dale": dale,
    "sparse": lambda: sparse(3),
    "tied": tied,
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_round_trip_is_exact_to_the_bit(name, tmp_path):
    field = FIELDS[name]()
    field.constrain()
    for k, p in enumerate(field.parameters.values()):
        if p.ndim == 1:
            p.copy_(torch.arange(len(p)) / 7 + k)
    write_nir(tmp_path / "net.nir", to_nir(field))
    back = from_nir(read_nir(tmp_path / "net.nir"))
    assert list(back.parameters) == list(field.parameters)
    for key, parameter in field.parameters.items():
        assert torch.equal(parameter, back.parameters[key]), key
    assert back.connections == field.connections
    assert (back.shapes, back.groups) == (field.shapes, field.groups)
    x = torch.rand(2, *field.shapes[0], dtype=torch.float64)
    s = torch.randn(2, field.n, dtype=torch.float64)
    assert torch.equal(back.field(x, s), field.field(x, s))


def run(graph, x: torch.Tensor, states: list[torch.Tensor]) -> torch.Tensor:
    """ds/dt of a graph in units of tau, by the meaning that NIR gives each node; rho is linear."""
    known = {"input": x} | {f"layer_{k}": s for k, s in enumerate(states, 1)}

    def value(name):
        if name in known:
            return known[name]
        (before,) = [a for a, b in graph.edges if b == name]
        r, node = value(before), graph.nodes[name]
        if isinstance(node, nir.Affine):
            return r @ torch.from_numpy(node.weight).T + torch.from_numpy(node.bias)
        if isinstance(node, nir.Conv2d):
            w, b = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
            return F.conv2d(r, w, b, tuple(node.stride), tuple(node.padding))
        if isinstance(node, nir.AvgPool2d):
            return F.avg_pool2d(r, tuple(int(side) for side in node.kernel_size))
        assert isinstance(node, nir.Flatten)
        return r.flatten(1)

    moved = []
    for k, s in enumerate(states, 1):
        node = graph.nodes[f"layer_{k}"]
        into = [value(a).reshape(s.shape) for a, b in graph.edges if b == f"layer_{k}"]
        assert node.tau.shape == s.shape[1:]
        moved.append((torch.from_numpy(node.v_leak) - s + sum(into)).flatten(1))
    return torch.cat(moved, 1)


def linear(name: str) -> LayeredField:
    if name != "graph":
        return FIELDS[name]()
    layers = [Layer((2, 3, 3), "linear"), Layer(4, "linear"), Layer(3, "linear", bias=False)]
    connections = [
        Conv(0, 1, stride=2, padding=1),
        Lateral(1),
        Dense(1, 2, mask=(torch.arange(72).view(4, 18) % 3 > 0).double()),
        Tied(2, 1),
        Dense(2, 3),
        Dense(3, 1, trainable=False),  # from the output to the first, and back into an image
        Dense(0, 3),
    ]
    return LayeredField((1, 5, 5), layers, connections, dtype=torch.float64)


@pytest.mark.parametrize("name", ["conv", "pooled", "graph"])
def test_the_graph_means_the_field(name):
    field = linear(name)
    for p in field.parameters.values():
        p.copy_(torch.randn(p.shape, dtype=p.dtype))
    x = torch.rand(2, *field.shapes[0], dtype=torch.float64)
    s = torch.randn(2, field.n, dtype=torch.float64)
    states = [
        part.view(2, *shape) for part, shape in zip(field.split(s), field.shapes[1:], strict=True)
    ]
    graph = to_nir(field)
    torch.testing.assert_close(run(graph, x, states), field.field(x, s), rtol=1e-12, atol=1e-12)
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    assert "Conv2d" in kinds
    assert ("AvgPool2d" in kinds) == (name == "pooled")
    # exponential Euler of a step: v <- a v + (1 - a) I
    scaled = in_steps(graph, 0.001)
    share = -np.expm1(-0.1)
    current = (run(graph, x, states) + s) * share
    torch.testing.assert_close(run(scaled, x, states) + s, current, rtol=1e-12, atol=1e-12)


def test_what_nir_has_no_node_for_is_refused_in_one_line():
    own = LayeredField(3, [Layer(2, Activation("own", torch.sin))], [Dense(0, 1)])

    class Mine(Dense):
        pass

    cases = {
        "the pooling of forward.1 has no node in NIR": convolutional("max"),
        "no nodes for the formula of a FunctionField": gated(),
        "an activation of its own": own,
        "is a Mine, for which NIR has no node": LayeredField(3, [Layer(2)], [Mine(0, 1)]),
        "nothing reaches it": LayeredField(3, [Layer(2), Layer(2)], [Dense(0, 1)]),
    }
    for part, field in cases.items():
        with pytest.raises(InputError, match=part) as refused:
            to_nir(field)
        assert "\n" not in str(refused.value)


def test_a_graph_that_contradicts_its_metadata_is_refused():
    def changed(change):
        graph = to_nir(convolutional("average"))
        change(graph)
        return graph

    def metadata(graph, **new):
        graph.metadata["bioplaus"] = json.dumps(json.loads(graph.metadata["bioplaus"]) | new)

    damage = {
        "another weight": lambda g: g.nodes["feedback_1"].weight.fill(0),
        "edges": lambda g: g.edges.remove(("layer_3", "output")),
        "does not fit": lambda g: g.nodes.pop("forward_2"),
        "of shape": lambda g: setattr(g.nodes["forward_3"], "weight", np.zeros((2, 2))),
        "tau": lambda g: metadata(g, tau=0.5),
        "activation": lambda g: metadata(g, layers=[{"shape": [3], "activation": "no"}]),
    }
    for part, change in damage.items():
        with pytest.raises(InputError, match=part):
            from_nir(changed(change))
