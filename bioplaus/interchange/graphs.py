"""Files, metadata and units of this program's NIR graphs."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bioplaus.errors import InputError

FORMAT = 1
KEY = "bioplaus"
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000}
UNSAID = (
    "the activation rho between a membrane and the weights that read it",
    "the box of clipped coordinates",
    "the nudge -beta dC/ds on the outputs",
    "the learning rule, and the two phases that it compares",
)
"""Properties that NIR cannot express; other simulators of the file use rho(s) = s and no nudge."""

UNREADABLE = (
    *(OSError, LookupError, ValueError, TypeError, AssertionError, AttributeError),
    *(RuntimeError, OverflowError, MemoryError),
)
"""Errors that nir and HDF5 raise for a damaged or malicious file; none of them runs code."""


def write_nir(path: Path, graph: Any) -> None:
    """Write a graph to a new file.

    Raises:
        InputError: the file exists already, or cannot be created.
        OSError: the disk is full or fails.
    """
    nir = load_nir()
    # Write to memory first, because HDF5 crashes the process if the disk is full.
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
        InputError: the file does not exist, or nir cannot read it.
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
        InputError: the number or the unit of time is missing, or the time is not positive.
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
    """This program's metadata in a graph: activation, coordinates, phases, and what NIR lacks.

    Raises:
        InputError: there are no metadata of this program, or they are from a newer version.
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


def array(values: Tensor) -> np.ndarray:
    """Convert values to an array as NIR stores it."""
    return np.ascontiguousarray(values.detach().cpu().numpy())
