"""A state as files: tensors in safetensors, the rest in JSON; loading cannot run code."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

_MAX_JSON_BYTES = 64 << 20
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def plain(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Convert a state to JSON values; tensors become references and are added to `tensors`.

    Raises:
        TypeError: the state holds something that cannot be saved.
    """
    if isinstance(value, Tensor):
        tensors[path] = value.detach()
        return {"$": "tensor", "at": path}
    if isinstance(value, Mapping):
        kinds = {type(key) for key in value}
        if kinds - {str} and kinds != {int}:
            raise TypeError(f"{path or 'the state'}: keys must be all texts or all whole numbers")
        inner = {
            str(k): plain(v, f"{path}/{k}" if path else str(k), tensors) for k, v in value.items()
        }
        return {"$": "dict" if kinds != {int} else "numbered", "of": inner}
    if isinstance(value, list | tuple):
        inner = [plain(v, f"{path}/{i}" if path else str(i), tensors) for i, v in enumerate(value)]
        return {"$": "tuple", "of": inner} if isinstance(value, tuple) else inner
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path or 'the state'}: {type(value).__name__} cannot be kept in a checkpoint")


def nested(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Rebuild the state from the result of `plain`."""
    if isinstance(value, list):
        return [nested(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    kind = value["$"]
    if kind == "tensor":
        return tensors[value["at"]]
    if kind == "tuple":
        return tuple(nested(each, tensors) for each in value["of"])
    if kind not in ("dict", "numbered"):
        raise ValueError(f"unknown kind {kind!r}")
    inner = {key: nested(each, tensors) for key, each in value["of"].items()}
    return {int(key): each for key, each in inner.items()} if kind == "numbered" else inner


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file and give its sha256.

    It is written piece by piece, so that no second copy is made in memory, as safetensors' own
    `save` does, and the file need not be read again for its sha256.

    Source: https://github.com/huggingface/safetensors#format
    """
    # Larger elements first keep every tensor aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, offset = {}, 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in _DTYPES:
            raise TypeError(f"{name}: {tensor.dtype} cannot be kept in a checkpoint")
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    for piece in (struct.pack("<Q", len(text)) + text, *map(tensors.__getitem__, order)):
        data = piece if isinstance(piece, bytes) else _bytes(piece)
        digest.update(data)
        file.write(data)
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read a safetensors file with the given sha256, onto the CPU.

    Raises:
        ValueError: it is damaged, or not a regular file.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _require_file(path)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError(f"{path.name} is damaged")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from None


def _require_file(path: Path) -> None:
    """Refuse a pipe, where reading would block, or a device, which may have no end."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no file")


def read_json(path: Path) -> bytes:
    """Read the text of a JSON file.

    Raises:
        ValueError: it is too large, or not a regular file.
        OSError: it cannot be read.
    """
    _require_file(path)
    with path.open("rb") as file:
        text = file.read(_MAX_JSON_BYTES + 1)
    if len(text) > _MAX_JSON_BYTES:
        raise ValueError(f"{path.name} is larger than {_MAX_JSON_BYTES} bytes")
    return text


def write_bytes(file: BinaryIO, data: bytes) -> str:
    """Write the data and give its sha256."""
    file.write(data)
    return hashlib.sha256(data).hexdigest()


def force_file(file: BinaryIO) -> None:
    """Force a file to the disk."""
    file.flush()
    os.fsync(file.fileno())
