"""IDX files made for tests, from the format's description and not by the package."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

NAMES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}
_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def encode(array: np.ndarray) -> bytes:
    """The IDX file of an array."""
    code = _CODES[f"{array.dtype.kind}{array.dtype.itemsize}"]
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def arrays(pixels: tuple[int, ...] = (2, 3)) -> dict[str, np.ndarray]:
    """Five training and three test images with four classes, by role."""
    rng = np.random.default_rng(0)
    return {
        "train images": rng.integers(0, 256, (5, *pixels)).astype(np.uint8),
        "train labels": np.array([0, 1, 2, 1, 0], np.uint8),
        "test images": rng.integers(0, 256, (3, *pixels)).astype(np.uint8),
        "test labels": np.array([2, 1, 3], np.uint8),
    }


def write(folder: Path, content: dict[str, np.ndarray], packed: bool = False) -> Path:
    """Write the arrays under their standard names."""
    folder.mkdir(exist_ok=True)
    for role, array in content.items():
        data = encode(array)
        name = NAMES[role] + (".gz" if packed else "")
        (folder / name).write_bytes(gzip.compress(data, 1) if packed else data)
    return folder


def noise(folder: Path) -> Path:
    """Write forty training and ten test images of noise, 4 x 4, with three classes."""
    rng = np.random.default_rng(0)
    content = {}
    for role, count in (("train", 40), ("test", 10)):
        content[f"{role} images"] = rng.integers(0, 256, (count, 4, 4)).astype(np.uint8)
        content[f"{role} labels"] = (np.arange(count) % 3).astype(np.uint8)
    return write(folder, content)
