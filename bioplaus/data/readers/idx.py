"""IDX files, the format of MNIST and its relatives, plain or gzip-compressed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from bioplaus.data.idx import read_idx
from bioplaus.data.raw import Part, Raw
from bioplaus.data.reader import AbstractReader, hidden, others, visible
from bioplaus.errors import InputError

STANDARD_NAMES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}
_TRAIN, _TEST = {"train"}, {"t10k", "test"}
_KINDS = {"image": "images", "images": "images", "label": "labels", "labels": "labels"}

Roles = Mapping[str, Path]
"""A data set's files, by role, e.g. "train images"."""


class IdxReader(AbstractReader):
    """Four IDX files, images and labels for training and test; or only the two for training.

    Source: LeCun, Cortes, Burges, "The MNIST database", section "The IDX file format".
    """

    name = "idx"
    form = "IDX files (train-images-idx3-ubyte, ..., plain or .gz)"
    homes = (
        "raw",
        "MNIST/raw",
        "FashionMNIST/raw",
        "KMNIST/raw",
        "MNIST",
        "FashionMNIST",
        "KMNIST",
    )
    prefix: ClassVar[str] = ""

    def recognises(self, place: Path) -> bool:
        return place.is_dir() and any(label.startswith(self.prefix) for label in find_roles(place))

    def read(self, place: Path, split: str | None) -> Raw:
        roles = self.choose(place, split)
        arrays, digests = {}, []
        for role, path in roles.items():
            array, digest = read_idx(path)
            arrays[role] = self.decode(role, path, array)
            digests.append(digest)
        parts = {
            side: Part(
                arrays[f"{side} images"],
                arrays[f"{side} labels"],
                str(roles[f"{side} images"]),
                str(roles[f"{side} labels"]),
            )
            for side in ("train", "test")
            if f"{side} images" in arrays
        }
        names = [path.name for path in roles.values()]
        return Raw(
            train=parts["train"],
            test=parts.get("test"),
            format="IDX files",
            digests=tuple(digests),
            files=tuple(names),
            left_out=(*others(visible(place)[0], names), *hidden(place)),
        )

    def choose(self, place: Path, split: str | None) -> Roles:
        """Choose the files of the data set that the user means.

        Raises:
            InputError: the choice is ambiguous, the name does not exist, or files are missing.
        """
        sets = {
            label: roles
            for label, roles in find_roles(place).items()
            if label.startswith(self.prefix)
        }
        if not sets:
            sets = {"": {}}
        names = _short_names(list(sets))
        if split is not None:
            if split not in names and len(sets) == 1 and names == [""]:
                raise InputError(f"split={split!r} has no effect: {place} holds one data set")
            if split not in names:
                legal = ", ".join(filter(None, names))
                raise InputError(f"split={split!r} is not in {place}: use one of {legal}")
            return _complete(place, sets[list(sets)[names.index(split)]])
        if len(sets) > 1:
            raise InputError(
                f"{place} holds {len(sets)} data sets ({', '.join(names)}): choose one, e.g. "
                f"--set data.split={names[0]}"
            )
        return _complete(place, next(iter(sets.values())))

    def decode(self, role: str, path: Path, array: np.ndarray) -> np.ndarray:
        """Convert the array of a file if it fits the file's role.

        Raises:
            InputError: it cannot.
        """
        return check_role(role, path, array)


def find_roles(folder: Path) -> dict[str, dict[str, Path]]:
    """Find the IDX files of a folder, by data set and role.

    A file's name contains one of the words train, t10k and test; one of image, images, label and
    labels; and a word that starts with idx or ubyte. The text before these words is the name of its
    data set, unless all files can belong to one data set; standard names come first. Uncompressed
    files take precedence over .gz.

    Raises:
        InputError: two files of a data set could have the same role.
    """
    files = visible(folder)[0]
    found: dict[str, dict[str, list[str]]] = {}
    for name in files:
        meaning = _meaning(name)
        if meaning is not None and not (name.endswith(".gz") and name[:-3] in files):
            label, role = meaning
            found.setdefault(label, {}).setdefault(role, []).append(name)
    if not found:
        return {}
    roles = {role for of_set in found.values() for role in of_set}
    single = {r: [n for of_set in found.values() for n in of_set.get(r, [])] for r in roles}
    standard = {
        role: [n for n in names if n.removesuffix(".gz") == STANDARD_NAMES[role]]
        for role, names in single.items()
    }
    if any(standard.values()):
        chosen = {role: standard[role] or names for role, names in single.items()}
        found = {"": chosen}
    elif all(len(names) == 1 for names in single.values()):
        found = {_common(list(found)): single}
    for of_set in found.values():
        for role, names in of_set.items():
            if len(names) > 1:
                raise InputError(
                    f"{folder} has {len(names)} files that could be its {role} "
                    f"({', '.join(names[:3])}): keep one, or name the right one "
                    f"{STANDARD_NAMES[role]}"
                )
    return {
        label: {role: folder / of_set[role][0] for role in STANDARD_NAMES if role in of_set}
        for label, of_set in sorted(found.items())
    }


def _meaning(file_name: str) -> tuple[str, str] | None:
    """Parse a data set's name and a role from a file's name; None if it has no role."""
    words = re.split(r"[^a-z0-9]+", file_name.lower())
    if not any(word.startswith(("idx", "ubyte")) for word in words):
        return None
    part = next((i for i, word in enumerate(words) if word in _TRAIN | _TEST), None)
    kind = next((i for i, word in enumerate(words) if word in _KINDS), None)
    if part is None or kind is None:
        return None
    side = "train" if words[part] in _TRAIN else "test"
    return "-".join(words[: min(part, kind)]), f"{side} {_KINDS[words[kind]]}"


def _common(labels: list[str]) -> str:
    """The common name of a data set whose files have different prefixes."""
    named = [label for label in labels if label]
    return named[0] if len(named) == 1 else ""


def _short_names(labels: list[str]) -> list[str]:
    """Names of data sets without their common leading words."""
    if len(labels) == 1:
        return [labels[0].rpartition("-")[2]]
    words = [label.split("-") for label in labels]
    skip = 0
    while all(len(each) > skip + 1 for each in words) and len({each[skip] for each in words}) == 1:
        skip += 1
    return ["-".join(each[skip:]) for each in words]


def _complete(folder: Path, roles: Roles) -> Roles:
    """Check that all four roles are present, or the two of a training set.

    Raises:
        InputError: one is missing.
    """
    needed = list(STANDARD_NAMES)
    if not any(role.startswith("test") for role in roles):
        needed = needed[:2]
    for role in needed:
        if role not in roles:
            part, kind = role.split()
            standard = STANDARD_NAMES[role]
            raise InputError(
                f"{folder} has no {role}: put {standard} or {standard}.gz there, or a file whose "
                f"name has the words {part}, {kind} and idx or ubyte"
            )
    return {role: roles[role] for role in needed}


def check_role(role: str, path: Path, array: np.ndarray) -> np.ndarray:
    """Return an array if it fits its role.

    Raises:
        InputError: it does not; the message names the file.
    """
    expected = "2 or more dimensions" if role.endswith("images") else "1 dimension"
    if (array.ndim >= 2) != role.endswith("images"):
        raise InputError(
            f"{path} is mislabelled: it holds {array.ndim} dimension(s) {list(array.shape)}, "
            f"{role} have {expected}; rename or replace the file"
        )
    if array.size == 0:
        raise InputError(f"{path} holds no {role}: its shape is {list(array.shape)}; replace it")
    if role.endswith("labels") and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{path} holds {array.dtype.name}, {role} are integers; convert it")
    return array
