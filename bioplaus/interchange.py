"""Networks in the field's interchange format NIR, to take them to other simulators and back."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bioplaus.errors import InputError
from bioplaus.fields import LeakyField

FORMAT = 1
KEY = "bioplaus"
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000}
UNSAID = (
    "the activation rho between a membrane and the weights that read it",
    "the box of clipped coordinates",
    "the nudge -beta dC/ds on the outputs",
    "the learning rule, and the two phases that it compares",
)
"""What NIR has no node for: another simulator that reads the file simulates rho(s) = s, free."""

UNREADABLE = (
    *(OSError, LookupError, ValueError, TypeError, AssertionError, AttributeError),
    *(RuntimeError, OverflowError, MemoryError),
)
"""What nir and HDF5 raise over a file that is damaged or made to do harm; none runs code."""


def to_nir(field: LeakyField, *, tau: float = 0.01, phases: Mapping[str, Any] | None = None) -> Any:
    """Write a network as a graph of leaky integrators and affine maps.

    A layer is one `LI`, tau dv/dt = v_leak - v + r I with r = 1 and v_leak = 0; a weight is one
    `Affine`, the feedforward ones with the bias of the layer that they drive, the feedback ones,
    which close the recurrent edges, with none. For a network whose activation is `linear` the
    graph is the whole of its free dynamics; for others it lacks what `UNSAID` lists, which its
    metadata name and keep for `from_nir`.

    Args:
        field: the network.
        tau: the membranes' time constant in seconds, > 0.
        phases: settings of free and nudged phases, to be kept in the metadata.

    Raises:
        InputError: tau is not positive, or nir is not installed.

    Source: Pedersen et al. 2024 (Nature Communications 15, 8122), the NIR specification.
    """
    nir = load_nir()
    if not 0 < tau < math.inf:
        raise InputError(f"tau={tau} must be a positive time in seconds")
    depth = len(field.layers)
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([field.sizes[0]])})}
    edges = []
    for k, size in enumerate(field.sizes[1:], 1):
        ones = np.ones(size, _array(field.parameters["bias.1"]).dtype)
        nodes[f"layer_{k}"] = nir.LI(tau=tau * ones, r=ones, v_leak=0 * ones)
        forward = _array(field.forward_weight(k - 1))
        nodes[f"forward_{k}"] = nir.Affine(forward, _array(field.parameters[f"bias.{k}"]))
        below = "input" if k == 1 else f"layer_{k - 1}"
        edges += [(below, f"forward_{k}"), (f"forward_{k}", f"layer_{k}")]
        if k < depth:
            back = _array(field.feedback_weight(k - 1))
            nodes[f"feedback_{k}"] = nir.Affine(back, np.zeros(size, back.dtype))
            edges += [(f"layer_{k + 1}", f"feedback_{k}"), (f"feedback_{k}", f"layer_{k}")]
    nodes["output"] = nir.Output({"output": np.array([field.sizes[-1]])})
    edges.append((f"layer_{depth}", "output"))
    return nir.NIRGraph(nodes, edges, metadata={KEY: json.dumps(_about(field, tau, phases))})


def from_nir(graph: Any) -> LeakyField:
    """Make the network of a graph that `to_nir` made; every weight is the same to the bit.

    Raises:
        InputError: the graph has no metadata of this program, or does not agree with them.
    """
    about = metadata(graph)
    if about.get("steps_of") is not None:
        raise InputError(
            "this NIR graph is scaled for a simulator's time step; import the original"
        )
    try:
        return _built(graph, about)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"this NIR graph does not fit its own metadata: {reason}") from None


def in_steps(graph: Any, dt: float) -> Any:
    """The same graph for a simulator that counts time in steps and does not scale its input.

    Such a one (sinabs) computes v <- a v + I with a = exp(-1/tau); exponential Euler of the
    leaky integrator is v <- a v + (1 - a) I with a = exp(-dt/tau). So tau becomes tau/dt, and
    what enters a membrane is scaled by 1 - a.

    Args:
        graph: what `to_nir` made.
        dt: the step in seconds, > 0.

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
        else:
            nodes[name] = node
    kept = {KEY: json.dumps(about | {"steps_of": dt})}
    return nir.NIRGraph(nodes, list(graph.edges), metadata=kept)


def write_nir(path: Path, graph: Any) -> None:
    """Write a graph to a new file.

    Raises:
        InputError: there is such a file already, or it cannot be made.
        OSError: the disk is full or fails.
    """
    nir = load_nir()
    # Through memory, since a full disk makes HDF5 crash the process.
    data = io.BytesIO()
    nir.write(data, graph)
    try:
        file = path.open("xb")
    except FileExistsError:
        raise InputError(f"{path}: there is such a file already; give another name") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    try:
        with file:
            file.write(data.getbuffer())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def read_nir(path: Path) -> Any:
    """Read a graph from a file.

    Raises:
        InputError: no such file, or nothing that nir can read.
    """
    nir = load_nir()
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        graph = nir.read(path)
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: no NIR graph: {reason}") from None
    if not isinstance(graph, nir.NIRGraph):
        raise InputError(f"{path}: no NIR graph, but one {type(graph).__name__}")
    return graph


def seconds(text: str) -> float:
    """Read a time with its unit: "10 ms", "0.01 s", "500 us".

    Raises:
        InputError: no number, or no unit of time, or not positive.
    """
    parts = re.fullmatch(r"\s*([-+.\deE]+)\s*(s|ms|us)\s*", text)
    try:
        value = float(parts[1]) / UNITS[parts[2]] if parts else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"tau={text!r} must be a positive time with its unit: s, ms or us")
    return value


def load_nir() -> Any:
    """The package nir.

    Raises:
        InputError: it is not installed; the message names the extra.
    """
    try:
        import nir
    except ImportError as error:
        raise InputError(
            f"NIR needs the package nir ({error}): pip install 'bioplaus[nir]'"
        ) from None
    return nir


def metadata(graph: Any) -> dict[str, Any]:
    """What this program kept in a graph: activation, coordinates, phases, what NIR leaves unsaid.

    Raises:
        InputError: there is nothing of this program, or of a newer version.
    """
    text = graph.metadata.get(KEY) if isinstance(graph.metadata, Mapping) else None
    if text is None:
        raise InputError(
            "this NIR graph was not written by bioplaus: it does not say which activation its "
            "leaky integrators have"
        )
    try:
        about = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(f"this NIR graph's metadata are not those of format {FORMAT} of bioplaus")
    return about


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


def _built(graph: Any, about: Mapping[str, Any]) -> LeakyField:
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
        if not np.array_equal(back, _array(mirror)):
            raise InputError(f"this NIR graph says tied weights, but feedback_{k} is no transpose")
    expected = to_nir(field, tau=about["tau"])
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
    """Refuse sizes that the weights do not have, before memory is taken for them."""
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
    if values.shape != tuple(parameter.shape) or values.dtype != _array(parameter).dtype:
        raise InputError(
            f"this NIR graph's {name} is {values.dtype} of shape {values.shape}, not "
            f"{_array(parameter).dtype} of {tuple(parameter.shape)} as its metadata say"
        )
    parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy())
