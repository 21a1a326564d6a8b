"""Chains of leaky integrators as NIR graphs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.fields import LeakyField
from bioplaus.interchange.graphs import FORMAT, KEY, UNSAID, array, load_nir


def chain_to_nir(field: LeakyField, tau: float, phases: Mapping[str, Any] | None = None) -> Any:
    """A chain as a graph of leaky integrators and affine maps; see `to_nir`."""
    nir = load_nir()
    depth = len(field.layers)
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([field.sizes[0]])})}
    edges = []
    for k, size in enumerate(field.sizes[1:], 1):
        ones = np.ones(size, array(field.parameters["bias.1"]).dtype)
        nodes[f"layer_{k}"] = nir.LI(tau=tau * ones, r=ones, v_leak=0 * ones)
        forward = array(field.forward_weight(k - 1))
        nodes[f"forward_{k}"] = nir.Affine(forward, array(field.parameters[f"bias.{k}"]))
        below = "input" if k == 1 else f"layer_{k - 1}"
        edges += [(below, f"forward_{k}"), (f"forward_{k}", f"layer_{k}")]
        if k < depth:
            back = array(field.feedback_weight(k - 1))
            nodes[f"feedback_{k}"] = nir.Affine(back, np.zeros(size, back.dtype))
            edges += [(f"layer_{k + 1}", f"feedback_{k}"), (f"feedback_{k}", f"layer_{k}")]
    nodes["output"] = nir.Output({"output": np.array([field.sizes[-1]])})
    edges.append((f"layer_{depth}", "output"))
    return nir.NIRGraph(nodes, edges, metadata={KEY: json.dumps(_about(field, tau, phases))})


def _about(field: LeakyField, tau: float, phases: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "sizes": field.sizes,
        "activation": field.activation.name,
        "coordinates": field.coordinates,
        "linear_output": field.linear_output,
        "tied": field.tied,
        "dtype": str(field.dtype).removeprefix("torch."),
        "tau": tau,
        "phases": dict(phases or {}),
        "not_expressed_in_nir": UNSAID,
    }


def chain_from_nir(graph: Any, about: Mapping[str, Any]) -> LeakyField:
    """Read a chain from a graph made by `chain_to_nir`."""
    dtype = {"float32": torch.float32, "float64": torch.float64}[about["dtype"]]
    _check_sizes(graph, about["sizes"])
    field = LeakyField(
        [*about["sizes"]],
        about["activation"],
        tied=about["tied"],
        coordinates=about["coordinates"],
        linear_output=about["linear_output"],
        generator=torch.Generator(),
        dtype=dtype,
    )
    for name, parameter in field.parameters.items():
        kind, _, k = name.partition(".")
        node = graph.nodes[f"{'forward' if kind == 'bias' else kind}_{k}"]
        _copy(name, node.bias if kind == "bias" else node.weight, parameter)
    for k in range(1, len(field.layers) if field.tied else 1):
        back, mirror = graph.nodes[f"feedback_{k}"].weight, field.feedback_weight(k - 1)
        if not np.array_equal(back, array(mirror)):
            raise InputError(f"this NIR graph says tied weights, but feedback_{k} is no transpose")
    expected = chain_to_nir(field, about["tau"])
    if sorted(map(tuple, graph.edges)) != sorted(expected.edges):
        raise InputError("this NIR graph's edges are not those of layered leaky integrators")
    for name, node in expected.nodes.items():
        for part in ("tau", "r", "v_leak"):
            if hasattr(node, part) and not np.array_equal(
                getattr(node, part), getattr(graph.nodes[name], part)
            ):
                raise InputError(
                    f"this NIR graph's {name} has another {part} than its metadata say"
                )
    return field


def _check_sizes(graph: Any, sizes: Any) -> None:
    """Reject sizes that do not match the weights, before memory is allocated."""
    if not isinstance(sizes, list) or len(sizes) < 2:
        raise InputError(f"this NIR graph's sizes={sizes!r} must be two or more whole numbers")
    for k, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), 1):
        shape = np.shape(graph.nodes[f"forward_{k}"].weight)
        if shape != (fan_out, fan_in):
            raise InputError(
                f"this NIR graph's forward.{k} is of shape {shape}, not {(fan_out, fan_in)} as "
                "its metadata say"
            )


def _copy(name: str, values: Any, parameter: Tensor) -> None:
    values = np.asarray(values)
    if values.shape != tuple(parameter.shape) or values.dtype != array(parameter).dtype:
        raise InputError(
            f"this NIR graph's {name} is {values.dtype} of shape {values.shape}, not "
            f"{array(parameter).dtype} of {tuple(parameter.shape)} as its metadata say"
        )
    parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))
