"""Data in people's forms, written by numpy, Pillow and from the formats' descriptions."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bioplaus.idx_files import encode


def pictures(count: int, shape: tuple[int, ...] = (4, 5), seed: int = 0) -> np.ndarray:
    """Images of noise, uint8, with a black and a white pixel each."""
    made = np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)
    made.reshape(count, -1)[:, :2] = [0, 255]
    return made


def labels(count: int, classes: int = 3, first: int = 0) -> np.ndarray:
    """Labels that cycle through the classes."""
    return (np.arange(count) % classes + first).astype(np.uint8)


def idx(
    folder: Path,
    name: str = "{}-{}-idx{}-ubyte",
    first: int = 0,
    packed: bool = False,
    sides: Sequence[tuple[str, int]] = (("train", 12), ("t10k", 6)),
    classes: int = 3,
) -> Path:
    """Write IDX files under names of a pattern; labels begin at `first`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (side, count) in enumerate(sides):
        arrays = {"images": pictures(count, seed=seed), "labels": labels(count, classes, first)}
        for kind, array in arrays.items():
            data = encode(array)
            path = folder / name.format(side, kind, array.ndim)
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
            else:
                path.write_bytes(data)
    return folder


def qmnist(folder: Path, train: int = 12, test: int = 6) -> Path:
    """Write QMNIST's files: labels are N x 8 integers of 32 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (side, count) in enumerate((("train", train), ("test", test))):
        table = np.full((count, 8), 77, np.int32)
        table[:, 0] = labels(count)
        images = gzip.compress(encode(pictures(count, seed=seed)))
        (folder / f"qmnist-{side}-images-idx3-ubyte.gz").write_bytes(images)
        data = gzip.compress(encode(table))
        (folder / f"qmnist-{side}-labels-idx2-int.gz").write_bytes(data)
    return folder


def cifar(folder: Path, wide: int = 1, batches: Sequence[int] = (1, 2, 3, 4, 5)) -> Path:
    """Write CIFAR-10's binary files, or with two labels an image CIFAR-100's."""
    folder.mkdir(parents=True, exist_ok=True)

    def records(count: int, seed: int) -> bytes:
        rows = [labels(count, 10)[:, None], labels(count, 7)[:, None]]
        images = pictures(count, (3, 32, 32), seed).reshape(count, -1)
        head = [rows[0]] if wide == 1 else [rows[1], rows[0]]
        return np.hstack([*head, images]).tobytes()

    if wide == 2:
        (folder / "train.bin").write_bytes(records(10, 1))
        (folder / "test.bin").write_bytes(records(10, 9))
        names = "\n".join(f"thing_{k}" for k in range(100))
        (folder / "fine_label_names.txt").write_text(f"{names}\n\n")
        return folder
    for k in batches:
        (folder / f"data_batch_{k}.bin").write_bytes(records(10, k))
    (folder / "test_batch.bin").write_bytes(records(10, 9))
    words = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    (folder / "batches.meta.txt").write_text("\n".join(words) + "\n\n")
    return folder


def image_folder(
    root: Path,
    sides: Sequence[str] = ("train", "test"),
    classes: Sequence[str] = ("cat", "dog"),
    mode: str = "RGB",
    suffix: str = ".png",
    count: int = 4,
) -> dict[str, np.ndarray]:
    """Write `count` images per class; give those of each side as stored, class by class."""
    made = {}
    for number, side in enumerate(sides):
        images = []
        for k, name in enumerate(classes):
            folder = root / side / name
            folder.mkdir(parents=True, exist_ok=True)
            shape = (5, 4, 3) if mode == "RGB" else (5, 4)
            for i, image in enumerate(pictures(count, shape, 10 * number + k)):
                Image.fromarray(image, mode).save(folder / f"{i:03}{suffix}")
                images.append(image)
        made[side] = np.stack(images)
    return made
