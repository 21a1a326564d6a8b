"""Convert networks to and from NIR, the interchange format of neuromorphic simulators."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from bioplaus.calling import answered
from bioplaus.errors import InputError
from bioplaus.fields import LayeredField, LeakyField, VectorField
from bioplaus.interchange.chains import chain_from_nir, chain_to_nir
from bioplaus.interchange.graphs import KEY, load_nir, metadata
from bioplaus.interchange.layered import layered_from_nir, layered_to_nir


@answered
def to_nir(
    field: VectorField, *, tau: float = 0.01, phases: Mapping[str, Any] | None = None
) -> Any:
    """Write a network as a graph of leaky integrators and linear maps.

    A layer is one `LI`, tau dv/dt = v_leak - v + r I with r = 1 and v_leak = 0. A dense weight is
    one `Affine`, and a convolution one `Conv2d`, followed by an `AvgPool2d` if it pools. The first
    of them into a layer carries the layer's bias. Edges follow the connections, including feedback
    and cycles. NIR has no node for feedback through pooling. It is written as the equivalent
    `Affine`, with its kernel in the metadata.

    For a network with `linear` activation the graph represents the free dynamics completely. For
    others it lacks what `UNSAID` lists; the metadata keep it for `from_nir`.

    Args:
        field: a layered field.
        tau: membrane time constant in seconds, > 0.
        phases: settings of free and nudged phases, to store in the metadata.

    Raises:
        InputError: tau is not positive, NIR has no nodes for the field, or nir is not installed.

    Source: Pedersen et al. 2024 (Nature Communications 15, 8122), the NIR specification.
    """
    load_nir()
    if not 0 < tau < math.inf:
        raise InputError(f"tau={tau} must be a positive time in seconds")
    if isinstance(field, LeakyField):
        return chain_to_nir(field, tau, phases)
    if isinstance(field, LayeredField):
        return layered_to_nir(field, tau, phases)
    raise InputError(
        f"NIR has no nodes for the formula of a {type(field).__name__}; use a LayeredField or a "
        "LeakyField"
    )


@answered
def from_nir(graph: Any) -> LayeredField:
    """Make the network from a graph that `to_nir` made; all weights are bitwise equal.

    Entries of a weight that its mask removes are not restored.

    Raises:
        InputError: the graph has no metadata of this program, or contradicts them.
    """
    about = metadata(graph)
    if about.get("steps_of") is not None:
        raise InputError(
            "this NIR graph is scaled for a simulator's time step; import the original"
        )
    made = layered_from_nir if about.get("kind") == "layered" else chain_from_nir
    try:
        return made(graph, about)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"this NIR graph does not fit its own metadata: {reason}") from None


def in_steps(graph: Any, dt: float) -> Any:
    """Convert a graph for a simulator that counts time in steps and does not scale its input.

    Such a simulator (sinabs) computes v <- a v + I with a = exp(-1/tau). Exponential Euler for
    the leaky integrator is v <- a v + (1 - a) I with a = exp(-dt/tau). Therefore tau becomes
    tau/dt, and the input of a membrane is scaled by 1 - a.

    Args:
        graph: a graph made by `to_nir`.
        dt: time step in seconds, > 0.

    Raises:
        InputError: dt is not positive.
    """
    nir = load_nir()
    if not 0 < dt < math.inf:
        raise InputError(f"dt={dt} must be a positive time in seconds")
    nodes, about = {}, metadata(graph)
    scale = -math.expm1(-dt / about["tau"])
    for name, node in graph.nodes.items():
        if isinstance(node, nir.LI):
            nodes[name] = nir.LI(tau=node.tau / dt, r=node.r, v_leak=node.v_leak)
        elif isinstance(node, nir.Affine):
            nodes[name] = nir.Affine(scale * node.weight, scale * node.bias)
        elif isinstance(node, nir.Conv2d):
            scaled = {"weight": scale * node.weight, "bias": scale * node.bias}
            nodes[name] = nir.Conv2d(
                input_shape=node.input_shape,
                stride=node.stride,
                padding=node.padding,
                dilation=node.dilation,
                groups=node.groups,
                **scaled,
            )
        else:
            nodes[name] = node
    kept = {KEY: json.dumps(about | {"steps_of": dt})}
    return nir.NIRGraph(nodes, list(graph.edges), metadata=kept)
