"""Labelled images: MNIST (shipped), Fashion-MNIST, and folders of IDX files."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bioplaus.data.dataset import Dataset, Examples
from bioplaus.data.facts import image_facts
from bioplaus.data.idx import read_idx
from bioplaus.data.scaling import scales
from bioplaus.errors import InputError

_STANDARD_NAMES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}
_MAX_CLASSES = 1 << 16


@dataclass(frozen=True)
class _Known:
    folder: Path
    help: str
    sha256: tuple[str, str, str, str]


_KNOWN = {
    "mnist": _Known(
        Path(__file__).parent / "mnist",
        "install the package again",
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": _Known(
        Path("/usr/share/datasets/fashion-mnist"),  # where Debian's package puts it
        "`apt-get install dataset-fashion-mnist` puts it there; or name the folder of its four "
        "files with --data-dir (data_dir=)",
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}


def load_dataset(
    name_or_dir: str,
    data_dir: Path | None = None,
    dtype: torch.dtype = torch.float32,
    train_size: int | None = None,
    test_size: int | None = None,
    value_range: tuple[float, float] | None = None,
) -> Dataset:
    """Load a data set by name, or a folder of four IDX files, gzip-compressed or not.

    A name wins over a folder of the same name; `./mnist` is the folder. The folder's files are
    the standard names (train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte,
    t10k-labels-idx1-ubyte; uncompressed before .gz); failing that, the only file whose name has
    the words train or t10k or test, image or images or label or labels, and one that starts with
    idx or ubyte. How values become states is in `bioplaus.data.scaling.scales`.

    Args:
        name_or_dir: "mnist", "fashion-mnist" or a folder.
        data_dir: where a named data set's files lie, if not at their usual place.
        dtype: of the images, floating point.
        train_size: how many training items to keep, the first ones; all by default.
        test_size: likewise of the test items.
        value_range: the values that become 0 and 1, if not those of the files' type.

    Raises:
        InputError: a file is missing, damaged, mislabelled or does not fit the others.
    """
    known = _KNOWN.get(name_or_dir)
    if known is not None:
        folder = data_dir if data_dir is not None else known.folder
        if data_dir is None and not folder.is_dir():
            raise InputError(f"{name_or_dir} is not at {folder}: {known.help}")
        name = name_or_dir
    else:
        folder = _folder(name_or_dir, data_dir)
        name = folder.resolve().name
    paths = find_files(folder)
    arrays: list[np.ndarray] = []
    digests: list[str] = []
    for i, (role, path) in enumerate(zip(_STANDARD_NAMES, paths, strict=True)):
        array, digest = read_idx(path)
        if known is not None and digest != known.sha256[i]:
            raise InputError(
                f"{path} is not {name}'s {role}: its unpacked sha256 is {digest}, legal is "
                f"{known.sha256[i]}; get a fresh copy, or give the folder itself as the data set"
            )
        arrays.append(_check_role(role, path, array))
        digests.append(digest)
    _check_pairs(paths, arrays)
    sizes = [
        _size("train_size", train_size, len(arrays[0])),
        _size("test_size", test_size, len(arrays[2])),
    ]
    classes = 1 + int(max(arrays[1].max(), arrays[3].max()))
    files = (paths[0], paths[2])
    (learnt, tested), notes = scales(files, (arrays[0], arrays[2]), value_range)
    arrays = [array[: sizes[i // 2]] for i, array in enumerate(arrays)]
    return Dataset(
        name=name,
        train=Examples(
            learnt.states(arrays[0], dtype), torch.from_numpy(arrays[1].astype(np.int64))
        ),
        test=Examples(
            tested.states(arrays[2], dtype), torch.from_numpy(arrays[3].astype(np.int64))
        ),
        shape=arrays[0].shape[1:],
        num_outputs=classes,
        sha256=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        facts=image_facts(
            (arrays[0], arrays[1]),
            (arrays[2], arrays[3]),
            classes,
            f"{learnt.lowest:g} to {learnt.highest:g} as {arrays[0].dtype.name}, "
            f"{learnt.low:g} to {learnt.high:g} made 0 to 1",
            notes,
        ),
    )


def find_files(folder: Path) -> tuple[Path, Path, Path, Path]:
    """Find a folder's train images, train labels, test images and test labels.

    The rule is in `load_dataset`.

    Raises:
        InputError: a file is missing, several could be meant, or the folder cannot be listed.
    """
    try:
        names = {path.name for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise InputError(
            f"{folder} cannot be listed ({error.strerror}): name a folder of four IDX files"
        ) from None
    found = []
    for role, standard in _STANDARD_NAMES.items():
        part, kind = role.split()
        meant = [name for name in (standard, standard + ".gz") if name in names][:1]
        meant = meant or sorted(name for name in names if _means(name, part, kind))
        if not meant:
            raise InputError(
                f"{folder} has no {role}: put {standard} or {standard}.gz there, or a file whose "
                f"name has the words {part}, {kind} and idx or ubyte"
            )
        if len(meant) > 1:
            raise InputError(
                f"{folder} has {len(meant)} files that could be its {role} "
                f"({', '.join(meant[:3])}): keep one, or name the right one {standard}"
            )
        found.append(folder / meant[0])
    return found[0], found[1], found[2], found[3]


def _means(file_name: str, part: str, kind: str) -> bool:
    words = re.split(r"[^a-z0-9]+", file_name.lower())
    parts = {"train"} if part == "train" else {"t10k", "test"}
    return (
        bool(parts.intersection(words))
        and (kind in words or kind.removesuffix("s") in words)
        and any(word.startswith(("idx", "ubyte")) for word in words)
    )


def _folder(name_or_dir: str, data_dir: Path | None) -> Path:
    folder = Path(os.path.expanduser(name_or_dir))
    if not name_or_dir or not os.path.isdir(folder):  # False, not an error, for any string
        near = difflib.get_close_matches(name_or_dir, _KNOWN, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(
            f"no data set {name_or_dir!r}: legal are {', '.join(_KNOWN)}, or an existing folder "
            f"of IDX files{hint}"
        )
    if data_dir is not None:
        raise InputError(
            f"two folders given, {folder} and {data_dir}: give one; data_dir goes with a name "
            f"({', '.join(_KNOWN)})"
        )
    return folder


def _check_role(role: str, path: Path, array: np.ndarray) -> np.ndarray:
    """Return the array if it can be what its role says."""
    expected = "2 or more dimensions" if role.endswith("images") else "1 dimension"
    if (array.ndim >= 2) != role.endswith("images"):
        raise InputError(
            f"{path} is mislabelled: it holds {array.ndim} dimension(s) {list(array.shape)}, "
            f"{role} have {expected}; rename or replace the file"
        )
    if array.size == 0:
        raise InputError(f"{path} holds no {role}: its shape is {list(array.shape)}; replace it")
    if role.endswith("labels"):
        if not np.issubdtype(array.dtype, np.integer):
            raise InputError(f"{path} holds {array.dtype.name}, {role} are integers; convert it")
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= _MAX_CLASSES:
            raise InputError(
                f"{path} holds labels from {low} to {high}, legal is 0 to {_MAX_CLASSES - 1}; "
                "number the classes from 0"
            )
    return array


def _check_pairs(paths: tuple[Path, ...], arrays: list[np.ndarray]) -> None:
    for i in (0, 2):
        if len(arrays[i]) != len(arrays[i + 1]):
            raise InputError(
                f"{paths[i]} holds {len(arrays[i])} images and {paths[i + 1]} "
                f"{len(arrays[i + 1])} labels: give one label an image"
            )
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        raise InputError(
            f"{paths[0]} holds images of shape {list(arrays[0].shape[1:])} and {paths[2]} of "
            f"{list(arrays[2].shape[1:])}: give train and test images of one shape"
        )


def _size(option: str, size: int | None, available: int) -> int:
    if size is None:
        return available
    if not 1 <= size <= available:
        raise InputError(f"{option}={size} is not there: use 1 to {available}, or leave it out")
    return size
