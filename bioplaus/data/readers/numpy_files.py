"""numpy's files: a .npz, or a folder of .npz and .npy files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from bioplaus.data.npy import read_npy, read_npz
from bioplaus.data.raw import Part, Raw, digest_of
from bioplaus.data.reader import AbstractReader, hidden, others, refuse_split, visible
from bioplaus.errors import InputError

_SIDES = {
    "train": ("train", "training", "tr", "learn"),
    "test": ("test", "testing", "te", "t10k", "eval"),
    "validation": ("val", "valid", "validation", "dev"),
}
_KINDS = {
    "x": ("x", "xs", "image", "images", "img", "imgs", "input", "inputs", "data", "features",
          "pixels"),
    "y": ("y", "ys", "label", "labels", "target", "targets", "class", "classes", "lbl"),
}  # fmt: skip
_LOOKED_FOR = "x_train, y_train, x_test, y_test (or train_images, train_labels, ..., or x and y)"
_ZIP, _NPY = b"PK\x03\x04", b"\x93NUMPY"


class NumpyReader(AbstractReader):
    """Arrays recognised by name: x_train, train_images, X and y, trainLabels, ..."""

    name = "numpy"
    form = "a .npz file, or a folder of .npz or .npy files (x_train, y_train, x_test, y_test)"
    rank = -1

    def recognises(self, place: Path) -> bool:
        if place.is_dir():
            return any(name.lower().endswith((".npz", ".npy")) for name in visible(place)[0])
        if not place.is_file():
            return False
        with place.open("rb") as file:
            start = file.read(len(_NPY))
        return start == _NPY or start[:4] == _ZIP or place.suffix.lower() in (".npz", ".npy")

    def read(self, place: Path, split: str | None) -> Raw:
        refuse_split(split, "numpy's files")
        left_out: tuple[str, ...] = ()
        if place.is_dir():
            files, _ = visible(place)
            names = [name for name in files if name.lower().endswith((".npz", ".npy"))]
            left_out = (*others(files, names), *hidden(place))
            paths = [place / name for name in names]
        else:
            paths = [place]
        arrays = _read_all(paths)
        chosen, more = _choose(place, arrays)
        called = {role: f"{place} ({name!r})" for role, name in chosen.items()}
        found = {role: arrays[name] for role, name in chosen.items()}
        parts = [
            Part(found[f"{side} x"], found[f"{side} y"], called[f"{side} x"], called[f"{side} y"])
            for side in ("train", "test")
            if f"{side} x" in found
        ]
        return Raw(
            train=parts[0],
            test=parts[1] if len(parts) > 1 else None,
            format="arrays of numpy",
            digests=tuple(digest_of(found[role]) for role in sorted(found)),
            files=tuple(path.name for path in paths),
            left_out=(*left_out, *more),
            facts={"arrays": list(chosen.values())},
        )


def _read_all(paths: Iterable[Path]) -> dict[str, np.ndarray]:
    """The arrays of files by name; if there are several files, prefixed by the file's name."""
    paths = list(paths)
    arrays: dict[str, np.ndarray] = {}
    for path in paths:
        with path.open("rb") as file:
            single = file.read(len(_NPY)) == _NPY
        inner = {"arr_0": read_npy(path)} if single else read_npz(path)
        for name, array in inner.items():
            # numpy.savez names an unnamed array arr_0
            whole = path.stem if name == "arr_0" else f"{path.stem} {name}"
            arrays[name if len(paths) == 1 and name != "arr_0" else whole] = array
    return arrays


def _choose(place: Path, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, str], list[str]]:
    """The names of arrays by role ("train x" etc.), and those left out.

    Raises:
        InputError: a role fits no array or several.
    """
    found: dict[str, list[str]] = {}
    for name in arrays:
        side, kind = _meaning(name)
        if kind is not None:
            found.setdefault(f"{side or 'train'} {kind}", []).append(name)
    there = ", ".join(list(arrays)[:8]) or "nothing"
    for role, names in found.items():
        if len(names) > 1:
            raise InputError(
                f"{place} has {len(names)} arrays that could be its {role.replace(' ', ' set, ')} "
                f"({', '.join(names[:3])}): keep one; looked for are {_LOOKED_FOR}"
            )
    validation = [names[0] for role, names in found.items() if role.startswith("validation")]
    for missing in ("train x", "train y"):
        if missing not in found:
            raise InputError(f"{place} holds {there}: looked for are {_LOOKED_FOR}")
    if ("test x" in found) != ("test y" in found):
        lone = found.get("test x", found.get("test y", [""]))[0]
        raise InputError(f"{place} has {lone} alone for a test set: looked for are {_LOOKED_FOR}")
    if "test x" not in found and {"validation x", "validation y"} <= found.keys():
        found |= {"test x": found["validation x"], "test y": found["validation y"]}
        validation = []
    chosen = {role: names[0] for role, names in found.items() if not role.startswith("val")}
    left = [name for name in arrays if name not in chosen.values()]
    more = [f"{n}: a validation set, beside a test set" for n in left if n in validation]
    return chosen, more + [f"{n}: no name of a part" for n in left if n not in validation]


def _meaning(name: str) -> tuple[str | None, str | None]:
    """Parse the side and the kind from an array's name: x_train, trainLabels, X, Ytest."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
    # xtrain, Ytest: one letter before a side
    words = [part for word in words for part in _parted(word)]
    side = next((s for s, names in _SIDES.items() if set(words) & set(names)), None)
    kinds = [k for word in words for k, names in _KINDS.items() if word in names]
    return side, kinds[-1] if kinds else None  # in "image labels" the last word counts


def _parted(word: str) -> list[str]:
    for names in _SIDES.values():
        for side in names:
            if word[1:] == side and word[0] in "xy":
                return [word[0], side]
            if word[:-1] == side and word[-1] in "xy":
                return [side, word[-1]]
    return [word]
