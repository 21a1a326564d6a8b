"""Read image files with Pillow into one array: all grey or all RGB, of one size."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bioplaus.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm",
            ".pbm", ".pnm")  # fmt: skip
_GREY = ("1", "L", "LA")
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_WORDS = {
    "LA": "have transparency, which is left out",
    "PA": "have transparency, which is left out",
    "RGBA": "have transparency, which is left out",
    "P": "have a palette, which is read as its colours",
    "1": "are black and white",
    "CMYK": "are CMYK, read as RGB",
    "YCbCr": "are YCbCr, read as RGB",
}


@dataclass(frozen=True)
class Pictures:
    """Images read from files.

    Attributes:
        values: [N, H, W] grey or [N, 3, H, W] RGB; uint8, or uint16 if all have 16 bits.
        full: the value of white.
        hashes: sha256 of each file, hexadecimal.
        notes: notes on conversions of some of them.
    """

    values: np.ndarray
    full: float
    hashes: tuple[str, ...]
    notes: list[str]


def read_pictures(paths: Sequence[Path]) -> Pictures:
    """Read image files.

    The result is grey if all images are, else RGB; it has 16 bits if all images have, else 8.

    Raises:
        InputError: Pillow is not installed or cannot read an image, or an image is too large or
            differs in size from the first.
    """
    Image = _pillow()
    modes: Counter[str] = Counter()
    conversions: Counter[str] = Counter()
    images, hashes = [], []
    with warnings.catch_warnings():
        # Pillow warns of large decompression bombs and rejects larger ones; treat both as errors
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for path in paths:
            array, mode, digest = _read(Image, path, conversions)
            if images and array.shape[:2] != images[0].shape[:2]:
                (h, w), (h0, w0) = array.shape[:2], images[0].shape[:2]
                raise InputError(
                    f"{path} is {w} x {h}, but {paths[0]} is {w0} x {h0} (width x height): bring "
                    "all images to one size"
                )
            modes[mode] += 1
            images.append(array)
            hashes.append(digest)
    deep = modes["deep"] == len(images)
    colour = modes["RGB"] > 0
    if modes["deep"] and not deep:
        conversions["are of 16 bits, brought to 8 as the others are"] = modes["deep"]
    if colour and modes["RGB"] < len(images):
        conversions["are grey, read as RGB as the others are"] = len(images) - modes["RGB"]
    dtype = np.uint16 if deep else np.uint8
    height, width = images[0].shape[:2]
    shape = (3, height, width) if colour else (height, width)
    values = np.empty((len(images), *shape), dtype)
    for row, array in zip(values, images, strict=True):
        if array.dtype == np.uint16 and not deep:
            array = (array // 257).astype(np.uint8)
        row[...] = np.moveaxis(array, 2, 0) if array.ndim == 3 else array
    notes = [f"{n} {what}" for what, n in sorted(conversions.items())]
    return Pictures(values, 65535.0 if deep else 255.0, tuple(hashes), notes)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise InputError(
            "images need Pillow, which is not installed: pip install 'bioplaus[images]'"
        ) from None
    return Image


def _read(Image: Any, path: Path, conversions: Counter[str]) -> tuple[np.ndarray, str, str]:
    """Read an image as [H, W] or [H, W, 3], its kind ("grey", "deep", "RGB") and its sha256."""
    try:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        with Image.open(io.BytesIO(data)) as image:
            if getattr(image, "n_frames", 1) > 1:
                conversions["have several frames, of which the first is read"] += 1
            mode = image.mode
            image.load()
            if mode in _WORDS:
                conversions[_WORDS[mode]] += 1
            elif "transparency" in image.info:
                conversions[_WORDS["RGBA"]] += 1
            if mode in _DEEP:
                return _deep(path, np.asarray(image)), "deep", digest
            if mode == "F":
                raise InputError(f"{path} holds floats: save it as 8 or 16 bits a pixel, or .npz")
            if mode in _GREY or (mode in ("P", "PA") and _grey_palette(image)):
                return np.asarray(image.convert("L")), "grey", digest
            return np.asarray(image.convert("RGB")), "RGB", digest
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = " ".join(str(error).split()).partition(",")[0]
        raise InputError(
            f"{path} is too large to be an example ({reason}): make it smaller, or leave it out"
        ) from None
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path} does not fit into memory: make it smaller") from None
    except Exception as error:  # Pillow raises many types of exceptions for damaged files
        reason = " ".join(str(error).split()).partition(" <")[0][:120]
        raise InputError(
            f"{path} cannot be read as an image ({type(error).__name__}: {reason}): replace it, "
            "or leave it out"
        ) from None


def _deep(path: Path, array: np.ndarray) -> np.ndarray:
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise InputError(
            f"{path} holds values from {low} to {high}: legal are 8 or 16 bits a pixel; convert it"
        )
    return array.astype(np.uint16)


def _grey_palette(image: Any) -> bool:
    colours = np.asarray(image.convert("RGB"))
    return bool((colours == colours[..., :1]).all())
