"""One folder of images per class: train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bioplaus.data.pictures import SUFFIXES, Pictures, read_pictures
from bioplaus.data.raw import Part, Raw
from bioplaus.data.reader import AbstractReader, refuse_split, visible
from bioplaus.errors import InputError

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "t10k", "eval", "val", "valid", "validation")
"""Names of a test set's folder; a validation set serves if there is no other."""


class _Found(NamedTuple):
    """The images of one part, alternating between classes."""

    paths: list[Path]
    labels: np.ndarray


class ImageFolderReader(AbstractReader):
    """One folder per class, with or without folders train and test; Pillow reads the images."""

    name = "images"
    form = "folders of images a class (train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png)"
    rank = -2

    def recognises(self, place: Path) -> bool:
        if not place.is_dir():
            return False
        sides = _sides(place)
        folders = [place / sides["train"]] if "train" in sides else [place]
        return any(
            _is_image(name)
            for folder in folders
            for each in visible(folder)[1]
            for name in visible(folder / each)[0]
        )

    def read(self, place: Path, split: str | None) -> Raw:
        refuse_split(split, "folders of images")
        sides = _sides(place)
        roots = {side: place / name for side, name in sides.items()} or {"train": place}
        if "train" not in roots:
            raise InputError(f"{place} has a test set alone: put a folder train beside it")
        classes = _classes(list(roots.values()))
        left_out: Counter[str] = Counter()
        found = {side: _images(root, classes, left_out) for side, root in roots.items()}
        pictures = read_pictures([path for each in found.values() for path in each.paths])
        parts, start = [], 0
        for side, each in found.items():
            rows = pictures.values[start : start + len(each.paths)]
            start += len(each.paths)
            parts.append(Part(rows, each.labels, str(roots[side]), str(roots[side])))
        beside = [name for name in visible(place)[1] if sides and name not in sides.values()]
        not_read = [f"{name}: another part" for name in beside]
        not_read += [f"{n} {'file' if n == 1 else 'files'}: {why}" for why, n in left_out.items()]
        return Raw(
            train=parts[0],
            test=parts[1] if len(parts) > 1 else None,
            format=f"folders of images, {len(pictures.values)} files",
            digests=_digests(place, found, pictures),
            files=tuple(str(p.relative_to(place)) for f in found.values() for p in f.paths),
            left_out=tuple(not_read),
            facts={"pictures": pictures.notes},
            class_names=tuple(classes),
            full=pictures.full,
            channels="first" if pictures.values.ndim == 4 else None,
        )

    def near_miss(self, place: Path) -> str:
        if place.is_dir() and any(_is_image(name) for name in visible(place)[0]):
            return f"{place} holds images, but no folder a class: put each in a folder of its class"
        return ""


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _sides(place: Path) -> dict[str, str]:
    """The folders of the training and the test set; empty if the classes are in `place` itself."""
    folders = [name for name in visible(place)[1] if visible(place / name)[1]]
    by_name = {name.lower(): name for name in reversed(folders)}
    train = next((by_name[name] for name in _TRAIN if name in by_name), None)
    test = next((by_name[name] for name in _TEST if name in by_name), None)
    if train is None and test is not None and len(by_name) > 1:
        test = None
    return {side: name for side, name in (("train", train), ("test", test)) if name}


def _classes(roots: list[Path]) -> list[str]:
    """Names of classes, sorted, by number if all are whole numbers."""
    names = {name for root in roots for name in visible(root)[1]}
    if not names:
        raise InputError(f"{roots[0]} has no folder a class: put each image in one of its class")
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=int) if numbers else sorted(names)


def _images(root: Path, classes: list[str], left_out: Counter[str]) -> _Found:
    """The images of one part: the first of each class by name, then the second, and so on.

    Any number of leading images is thus balanced between the classes, up to one image.

    Raises:
        InputError: the folder of a class has no images.
    """
    found: list[tuple[int, int, Path]] = []
    there = set(visible(root)[1])
    for label, name in enumerate(classes):
        if name not in there:
            continue
        folder = root / name
        files, folders = visible(folder)
        images = [each for each in files if _is_image(each)]
        if not images:
            held = f"holds {files[0]}, no image" if files else "is empty"
            raise InputError(
                f"{folder} {held}: put images of the class there ({', '.join(SUFFIXES[:4])}, ...), "
                "or remove the folder"
            )
        dotted = sum(each.name.startswith(".") for each in folder.iterdir())
        left_out.update({"begin with a dot": dotted} if dotted else {})
        if len(images) < len(files):
            left_out["no images by their names"] += len(files) - len(images)
        if folders:
            left_out["folders inside of a class's"] += len(folders)
        found += [(place, label, folder / each) for place, each in enumerate(images)]
    found.sort(key=lambda each: each[:2])
    return _Found([path for _, _, path in found], np.array([k for _, k, _ in found], np.int64))


def _digests(place: Path, found: dict[str, _Found], pictures: Pictures) -> tuple[str, ...]:
    """A hash of each part, over the names and the bytes of its files."""
    hashes = iter(pictures.hashes)
    digests = []
    for each in found.values():
        digest = hashlib.sha256()
        for path in each.paths:
            digest.update(f"{path.relative_to(place)} {next(hashes)}\n".encode(errors="replace"))
        digests.append(digest.hexdigest())
    return tuple(digests)
