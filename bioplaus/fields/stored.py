"""Read a field from a file that `save` has written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from bioplaus.calling import answered
from bioplaus.errors import InputError
from bioplaus.fields.base import VectorField
from bioplaus.fields.connections import Connection, Conv, Dense, Lateral, Tied
from bioplaus.fields.kept import FORMAT
from bioplaus.fields.layer import Layer
from bioplaus.fields.layered import LayeredField
from bioplaus.fields.leaky import LeakyField

LAYOUT = "layout/"


@answered
def load(
    path: str | os.PathLike[str],
    into: VectorField | None = None,
    *,
    device: torch.device | str = "cpu",
) -> VectorField:
    """Read a field written by `field.save(path)`, without running code from the file.

    Layered fields are restored completely. The formula of a `FunctionField` or of a user's class
    is code and not in the file: make the field, and pass it as `into`.

    Args:
        path: a safetensors file.
        into: a field to copy the file's tensors into, in place.
        device: device for the tensors of a new field.

    Returns:
        `into`, or the field that the file describes.

    Raises:
        InputError: the file does not exist, has another format or is damaged; it describes no field
            and `into` is missing; or its tensors do not fit.
    """
    path = Path(path)
    tensors, about = _read(path, "cpu" if into is not None else str(device))
    state = {name: t for name, t in tensors.items() if not name.startswith(LAYOUT)}
    if into is not None:
        if not isinstance(into, VectorField):
            raise InputError(
                f"into is {type(into).__name__}; give the field that takes the tensors"
            )
        try:
            into.load_state_dict(state)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return into
    description = about.get("description")
    if description is None:
        what = about.get("repr", "no field of this package")
        raise InputError(
            f"{path} holds the tensors of {what}, and not its formula, which is code; make the "
            "field and give load(path, into=field)"
        )
    try:
        kind, settings = description["kind"], {k: v for k, v in description.items() if k != "kind"}
        order = {name: state[name] for name in about["order"]}
        return _MAKERS[kind](settings, order | state, tensors)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{path} describes a field in a way that this version cannot read "
            f"({type(error).__name__}: {error}); make the field and give load(path, into=field)"
        ) from None


def _read(path: Path, device: str) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    try:
        with safe_open(path, framework="pt", device=device) as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            about = json.loads((file.metadata() or {}).get(FORMAT, "{}"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except Exception as error:  # from safetensors, whose errors are private, or the system
        raise InputError(
            f"{path} is no safetensors file that can be read ({error}); give one that "
            "field.save wrote"
        ) from None
    if not isinstance(about, Mapping):
        raise InputError(f"{path}: its metadata is no description; give one that field.save wrote")
    return tensors, about


def _leaky(
    settings: dict[str, Any], state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> LeakyField:
    like = next(iter(state.values()))
    drawn = torch.Generator().manual_seed(0)  # a private generator; draws are overwritten
    made = LeakyField(**settings, generator=drawn, dtype=like.dtype, device=like.device)
    made.load_state_dict(state)
    return made


def _layered(
    settings: dict[str, Any], state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> LayeredField:
    layers = []
    for layer in settings.pop("layers"):
        box = layer.pop("box")
        layers.append(
            Layer(tuple(layer.pop("shape")), **layer, box=None if box is None else (box[0], box[1]))
        )
    connections = [_connection(each, tensors) for each in settings.pop("connections")]
    like = next(iter(state.values()))
    return LayeredField(
        tuple(settings.pop("input")),
        layers,
        connections,
        **settings,
        weights=state,
        dtype=like.dtype,
        device=like.device,
    )


def _connection(description: dict[str, Any], tensors: Mapping[str, Tensor]) -> Connection:
    kind, name = _CONNECTIONS[description.pop("kind")], description["name"]
    parts: dict[str, Any] = {
        what: tensors[key]
        for what in ("mask", "signs")
        if (key := f"{LAYOUT}{name}/{what}") in tensors
    }
    if kind is Lateral:
        description["layer"] = description.pop("source")
        del description["target"]
    return kind(**description, **parts)


_CONNECTIONS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Dense, Conv, Lateral, Tied)}
_MAKERS: dict[str, Callable[[dict[str, Any], Mapping[str, Tensor], Mapping[str, Tensor]], Any]] = {
    "LeakyField": _leaky,
    "LayeredField": _layered,
}
