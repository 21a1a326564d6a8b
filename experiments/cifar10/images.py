"""Locate the images, and convert them to a format that loads within a second."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from bioplaus.data import Dataset, load_dataset
from bridge.errors import InputError

ARCHIVE = "cifar10-jpeg.tar.xz"


def packed(given: str, folder: Path) -> str:
    """Give the value of `eqprop-run --dataset` for the images at a path.

    Image files are packed once into FOLDER/images.npz. CIFAR-10's own binary files and named data
    sets are used directly.

    Args:
        given: a name, a folder, or a folder with the archive of JPEG files.
        folder: the experiment's folder.

    Raises:
        InputError: the path does not exist.
    """
    place = Path(given).expanduser()
    archive = place / ARCHIVE if place.is_dir() else place
    files = next(place.glob("*/*/*.jpg"), None) or next(place.glob("*/*/*/*.jpg"), None)
    if archive.name != ARCHIVE and files is None:
        return given
    out = folder / "images.npz"
    if out.is_file():
        return str(out)
    if files is None:
        if not archive.is_file():
            return given
        folder.mkdir(parents=True, exist_ok=True)
        # a folder of its own: two commands may start at the same time
        with tempfile.TemporaryDirectory(prefix="unpacked-", dir=folder) as unpacked:
            _unpack(archive, Path(unpacked))
            _pack(load_dataset(unpacked), out)
    else:
        _pack(load_dataset(given), out)
    return str(out)


def _unpack(archive: Path, folder: Path) -> None:
    """Extract an archive's regular files; `extractall(filter=)` needs Python 3.11.4."""
    with tarfile.open(archive) as tar:
        for member in tar:
            place = folder / member.name
            if not place.resolve().is_relative_to(folder.resolve()):
                raise InputError(f"{archive}: {member.name} leads out of the folder; repack it")
            if not member.isfile():
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            read = tar.extractfile(member)
            assert read is not None  # a regular file
            with read, place.open("wb") as written:
                shutil.copyfileobj(read, written)


def _pack(data: Dataset, out: Path) -> None:
    if data.image_shape is None:
        raise InputError(f"{data.name} holds inputs of shape {data.shape}, which are no images")
    out.parent.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for side, part in (("train", data.train), ("test", data.test)):
        values = (part.inputs * 255).round().to("cpu").numpy().astype(np.uint8)
        arrays[f"x_{side}"] = values.reshape(-1, *data.shape)
        arrays[f"y_{side}"] = part.targets.cpu().numpy()
    with tempfile.TemporaryDirectory(prefix="packed-", dir=out.parent) as beside:
        whole = Path(beside) / out.name
        np.savez(whole, **arrays)
        whole.replace(out)
