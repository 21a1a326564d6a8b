"""Checkpoints: all that a loop needs to go on, in a folder that is whole or does not count.

A state is anything made of dicts, lists, tuples, tensors, numbers, texts, bools and None, as
`state_dict()` gives it. Tensors go into one safetensors file, the rest into JSON; nothing that is
read can run code. The manifest, with the sha256 of both, is written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from bridge.disk import force, make_folders
from bridge.errors import InputError, StorageError

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
KEPT = 2
"""Checkpoints that stay: the newest, and one more in case the disk has damaged it."""

_NAME = re.compile(r"step-(\d{12})")
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


@dataclass(frozen=True)
class Checkpoint:
    """What was saved after a step.

    Args:
        path: its folder.
        step: steps done.
        facts: what the saver added, e.g. the run's id and the rows of its log.
        state: what the loop needs, see `save_checkpoint`.
    """

    path: Path
    step: int
    facts: Mapping[str, Any]
    state: Any = field(repr=False)


def save_checkpoint(folder: Path, step: int, state: Any, facts: Mapping[str, Any]) -> Path:
    """Save a state; a kill at any moment leaves it whole, or leaves nothing that counts.

    Written into a new folder beside, each file forced to the disk, the manifest last, then
    renamed. Of the older ones in the same folder the newest stays.

    Args:
        folder: where a run's checkpoints are; made if need be.
        step: steps done, >= 0.
        state: nested dicts, lists, tuples, tensors, numbers, texts, bools and None; the keys of a
            dict are all texts or all whole numbers.
        facts: what JSON can say.

    Returns:
        The checkpoint's folder.

    Raises:
        TypeError: something in the state that cannot be kept.
        StorageError: the disk is full or fails; older checkpoints stay.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps({"step": step, "facts": dict(facts), "state": _plain(state, "", tensors)})
    final = folder / f"step-{step:012d}"
    temporary = folder / f".{final.name}.{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        make_folders(folder)
        temporary.mkdir()
        files = {}
        for name, write in (
            (TENSORS, lambda file: _write_tensors(file, tensors)),
            (STATE, lambda file: _write(file, text.encode())),
        ):
            with (temporary / name).open("wb") as file:
                files[name] = write(file)
                _force(file)
        with (temporary / MANIFEST).open("wb") as file:
            file.write(json.dumps({"format": 1, "sha256": files}).encode())
            _force(file)
        force(temporary)
        # Only a checkpoint that could not be read back can have this name already.
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        force(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # where no older one is
        raise StorageError(
            f"{folder}: the checkpoint of step {step} cannot be written: "
            f"{error.strerror or error}; the log and older checkpoints are kept"
        ) from None
    for old in checkpoints(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a folder, good or not, newest first."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    return sorted(found, key=lambda path: path.name, reverse=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint, every byte of it verified; tensors are on the CPU.

    Raises:
        InputError: it is not whole, or damaged.
    """
    try:
        manifest = json.loads(_read_json(path / MANIFEST))
        digests = manifest["sha256"]
        if manifest["format"] != 1 or set(digests) != {TENSORS, STATE}:
            raise ValueError("its manifest is of another kind")
        text = _read_json(path / STATE)
        if hashlib.sha256(text).hexdigest() != digests[STATE]:
            raise ValueError(f"{STATE} is damaged")
        tensors = _read_tensors(path / TENSORS, digests[TENSORS])
        found = json.loads(text)
        if f"step-{found['step']:012d}" != path.name:
            raise ValueError(f"it is of step {found['step']}")
        return Checkpoint(path, found["step"], found["facts"], _nested(found["state"], tensors))
    except OSError as error:
        raise InputError(f"{path}: no whole checkpoint: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: damaged checkpoint: {' '.join(str(error).split())}") from None


def restore(into: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into those of a loop, in place.

    Raises:
        InputError: they are not of the same names, shapes and dtypes.
    """
    have = {name: (tuple(t.shape), t.dtype) for name, t in into.items()}
    given = {name: (tuple(t.shape), t.dtype) for name, t in saved.items()}
    if have != given:
        odd = sorted(n for n in have.keys() | given.keys() if have.get(n) != given.get(n))
        raise InputError(f"the checkpoint does not fit this run at {', '.join(odd[:5])}")
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(saved[name])


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """While the block puts a state into a loop, say in one error that it is no state of that loop.

    Raises:
        InputError: something is missing in the state, or is of another kind.
    """
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(
            f"the checkpoint does not fit this run: {said}; remove it, to go on from an older one"
        ) from None


def random_states(**generators: torch.Generator) -> dict[str, Tensor]:
    """Gather the states of a loop's own generators, by name, and of torch's global ones."""
    states = {name: each.get_state() for name, each in generators.items()}
    states["torch"] = torch.get_rng_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for i, state in enumerate(torch.cuda.get_rng_state_all()):
            states[f"cuda:{i}"] = state
    return states


def set_random_states(states: Mapping[str, Tensor], **generators: torch.Generator) -> None:
    """Set generators to what `random_states` gave.

    Raises:
        InputError: the state of one of them is missing.
    """
    missing = [name for name in generators if name not in states]
    if missing:
        raise InputError(f"the checkpoint has no random state of {', '.join(missing)}")
    for name, each in generators.items():
        each.set_state(states[name])
    torch.set_rng_state(states["torch"])
    for name, state in states.items():
        if name.startswith("cuda:"):
            torch.cuda.set_rng_state(state, int(name.removeprefix("cuda:")))


def _plain(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Say a state in JSON, tensors as references; those are put into `tensors`."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach()
        return {"$": "tensor", "at": path}
    if isinstance(value, Mapping):
        kinds = {type(key) for key in value}
        if kinds - {str} and kinds != {int}:
            raise TypeError(f"{path or 'the state'}: keys must be all texts or all whole numbers")
        inner = {
            str(k): _plain(v, f"{path}/{k}" if path else str(k), tensors) for k, v in value.items()
        }
        return {"$": "dict" if kinds != {int} else "numbered", "of": inner}
    if isinstance(value, list | tuple):
        inner = [_plain(v, f"{path}/{i}" if path else str(i), tensors) for i, v in enumerate(value)]
        return {"$": "tuple", "of": inner} if isinstance(value, tuple) else inner
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path or 'the state'}: {type(value).__name__} cannot be kept in a checkpoint")


def _nested(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_nested(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    kind = value["$"]
    if kind == "tensor":
        return tensors[value["at"]]
    if kind == "tuple":
        return tuple(_nested(each, tensors) for each in value["of"])
    if kind not in ("dict", "numbered"):
        raise ValueError(f"unknown kind {kind!r}")
    inner = {key: _nested(each, tensors) for key, each in value["of"].items()}
    return {int(key): each for key, each in inner.items()} if kind == "numbered" else inner


def _write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file and give its sha256.

    Piece by piece, so that neither a second copy is made in memory, as by safetensors' own
    `save`, nor the file read again for its sha256.

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


def _read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _require_file(path)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError(f"{TENSORS} is damaged")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{TENSORS}: {error}") from None


def _require_file(path: Path) -> None:
    """Refuse a pipe, which would be waited for, or a device, which may have no end."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no file")


def _read_json(path: Path) -> bytes:
    _require_file(path)
    with path.open("rb") as file:
        text = file.read(_MAX_JSON_BYTES + 1)
    if len(text) > _MAX_JSON_BYTES:
        raise ValueError(f"{path.name} is larger than {_MAX_JSON_BYTES} bytes")
    return text


def _write(file: BinaryIO, data: bytes) -> str:
    file.write(data)
    return hashlib.sha256(data).hexdigest()


def _force(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
