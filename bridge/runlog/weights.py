"""Weights in a log: two slots are written in turn, so that a kill leaves the last valid one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bridge.errors import InputError
from bridge.runlog import guard

SLOTS = 2
_CHUNK_BYTES = 1 << 20


def as_array(tensor: Any) -> NDArray[Any]:
    """Convert a tensor of torch, on any device, or of NumPy to a contiguous array."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().numpy()
    return np.asarray(tensor, order="C")


def create_weights(
    file: h5py.File, tensors: Mapping[str, NDArray[Any]], slots: int = SLOTS
) -> None:
    """Create one dataset [slots, *shape] per tensor, and each slot's step, save number and CRC.

    Args:
        file: the file that receives the group.
        tensors: with the shapes and dtypes to be saved.
        slots: 2 while the run goes on, 1 when sealed.

    Raises:
        ValueError: HDF5 does not allow a name, or a dtype is neither integer nor real.
    """
    group = file.create_group("weights")
    group.attrs["NX_class"] = "NXcollection"
    for name, dtype, value in (("step", "<i8", 0), ("saved", "<i8", -1), ("crc", "<u4", 0)):
        start = np.full(slots, value, dtype)
        group.create_dataset(name, data=start, chunks=(slots,), fletcher32=True)
    inner = group.create_group("tensors")
    for name, tensor in tensors.items():
        if not name or "/" in name or name in (".", "..") or tensor.dtype.kind not in "iufb":
            raise ValueError(f"weights {name!r} of {tensor.dtype} cannot be kept in the log")
        shape = (slots, *tensor.shape)
        chunked: dict[str, Any] = {}
        if tensor.size:
            chunks = (1, *_chunk(tensor.shape, tensor.itemsize))
            chunked = {"chunks": chunks, "fletcher32": True}
        inner.create_dataset(name, shape=shape, dtype=tensor.dtype, **chunked)


def write_weights(file: h5py.File, step: int, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write weights to the older slot; until the last flush the other slot is the newest.

    Args:
        file: a log with a group of weights.
        step: the step of the weights.
        tensors: with the names, shapes and dtypes that the group was created for.

    Raises:
        ValueError: they differ from those.
    """
    group = guard.group(file, "weights")
    inner = guard.group(group, "tensors")
    datasets = {name: guard.dataset(inner, name) for name in tensors if name in inner}
    facts = {name: guard.dataset(group, name) for name in ("step", "crc", "saved")}
    expected = {name: (each.shape[1:], each.dtype) for name, each in datasets.items()}
    given = {name: (each.shape, each.dtype) for name, each in tensors.items()}
    if given != expected or len(inner) != len(tensors):
        raise ValueError(f"weights {given} are not those that the log was opened for: {expected}")
    saved = facts["saved"][:]
    slot, number = int(np.argmin(saved)), int(np.max(saved)) + 1
    # The first save allocates the chunks of every slot. Afterwards no index changes: a power cut
    # could tear it, and with it weights that were forced to the disk before.
    for each in range(len(saved)) if not number else (slot,):
        for name, tensor in tensors.items():
            datasets[name][each] = tensor
    file.flush()
    facts["step"][slot] = step
    facts["crc"][slot] = _crc(step, number, tensors)
    facts["saved"][slot] = number
    file.flush()


def read_weights(file: h5py.File, last: int | None = None) -> tuple[int, dict[str, NDArray[Any]]]:
    """Read the newest slot with a correct CRC.

    Args:
        file: a log.
        last: ignore weights of a later step.

    Raises:
        InputError: the log has no weights, or none was ever saved.
        Damaged: weights were saved, but no slot is undamaged.
    """
    if file.get("weights", getlink=True) is None:
        raise InputError("a log without weights")
    group = guard.group(file, "weights")
    saved, steps = (guard.read_column(group, n, np.dtype("<i8")) for n in ("saved", "step"))
    crcs = guard.read_column(group, "crc", np.dtype("<u4"))
    if not len(saved) == len(steps) == len(crcs):
        raise guard.Damaged("damaged log: /weights")
    wanted = saved >= 0 if last is None else (saved >= 0) & (steps <= last)
    newest_first = [int(slot) for slot in np.argsort(saved)[::-1] if wanted[slot]]
    for slot in newest_first:
        tensors = _slot(guard.group(group, "tensors"), slot, len(saved))
        step, number = int(steps[slot]), int(saved[slot])
        if tensors is not None and _crc(step, number, tensors) == crcs[slot]:
            return step, tensors
    if newest_first:
        raise guard.Damaged("damaged log: /weights")
    raise InputError("a log without weights: none were saved yet")


def weights_in(path: Path, last: int | None = None) -> tuple[int, dict[str, NDArray[Any]]] | None:
    """Read the newest undamaged weights of a log; None if none can be read.

    Args:
        path: the log.
        last: ignore weights of a later step.
    """

    def read() -> tuple[int, dict[str, NDArray[Any]]]:
        with guard.opened(path) as (file, _):
            return read_weights(file, last)

    try:
        return guard.patiently(path, read)
    except InputError:
        return None


def _slot(inner: h5py.Group, slot: int, slots: int) -> dict[str, NDArray[Any]] | None:
    tensors = {}
    for name in sorted(inner):
        found = guard.dataset(inner, name)
        if found.ndim < 1 or found.shape[0] != slots:
            raise InputError(f"{found.name} does not have {slots} slots; this is no run log")
        guard.check_size(found, int(np.prod(found.shape[1:], dtype=object)) * found.dtype.itemsize)
        try:
            tensors[name] = found[slot]
        except OSError:
            return None
    return tensors


def _crc(step: int, number: int, tensors: Mapping[str, NDArray[Any]]) -> int:
    crc = zlib.crc32(struct.pack("<qq", step, number))
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(tensors[name]).reshape(-1).view("u1").data, crc)
    return crc


def _chunk(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Halve the first axes until a chunk is about a megabyte."""
    chunk = [max(n, 1) for n in shape]
    for axis in range(len(chunk)):
        while chunk[axis] > 1 and int(np.prod(chunk)) * itemsize > _CHUNK_BYTES:
            chunk[axis] = (chunk[axis] + 1) // 2
    return tuple(chunk)
