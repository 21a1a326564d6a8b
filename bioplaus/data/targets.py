"""Recognise targets: labels, names of classes, one-hot rows or target vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bioplaus.errors import InputError

MAX_CLASSES = 1 << 16


@dataclass(frozen=True)
class Targets:
    """The targets of one or two parts.

    Attributes:
        of: one array per part: labels [N], int64 from 0; or vectors [N, m], floating point.
        num_outputs: number of classes, or m.
        class_names: name of each label; empty if the classes have only numbers.
        note: how they were read, if they were converted.
    """

    of: tuple[np.ndarray, ...]
    num_outputs: int
    class_names: tuple[str, ...] = ()
    note: str = ""


def read_targets(
    arrays: Sequence[np.ndarray],
    names: Sequence[str],
    class_names: tuple[str, ...] = (),
    num_classes: int | None = None,
) -> Targets:
    """Recognise what kind of targets arrays are.

    Integers and booleans [N] are labels from 0. Strings are names of classes, which are numbered in
    sorted order. [N, m] are target vectors, unless each row has a single 1 and is 0 elsewhere; then
    the position of the 1 is the label.

    Args:
        arrays: the targets of the training set, and of the test set if there is one.
        names: their names in messages.
        class_names: name of each label, if known.
        num_classes: number of classes; None means 1 + the largest label.

    Raises:
        InputError: they are none of these, do not match each other, or a label is out of range.
    """
    arrays = [_plain(array, name) for array, name in zip(arrays, names, strict=True)]
    if arrays[0].ndim == 1 and arrays[0].dtype.kind == "U":
        return _from_text(arrays, names, num_classes)
    note = ""
    if all(array.ndim == 2 and _one_hot(array) for array in arrays):
        widths = {array.shape[1] for array in arrays}
        if len(widths) == 1:
            num_classes = widths.pop() if num_classes is None else num_classes
            arrays = [array.argmax(1) for array in arrays]
            note = "one-hot rows, read as labels"
    if all(array.ndim == 1 for array in arrays):
        return _labels(arrays, names, class_names, num_classes, note)
    if any(array.ndim == 1 for array in arrays):
        kinds = ["labels" if array.ndim == 1 else "target vectors" for array in arrays]
        raise InputError(
            f"{names[0]} holds {kinds[0]} and {names[1]} {kinds[1]}: give both in one form"
        )
    return _vectors(arrays, names, num_classes)


def _plain(array: np.ndarray, name: str) -> np.ndarray:
    """Drop a superfluous column; return integers, floats or text, or raise an error."""
    kind = array.dtype.kind
    if array.ndim == 2 and array.shape[1] == 1 and kind in "buiSU":
        array = array[:, 0]
    if array.ndim not in (1, 2) or array.size == 0:
        raise InputError(
            f"{name} has shape {list(array.shape)}: labels are N integers, target vectors N x m"
        )
    if kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if kind == "U":
        return array
    if kind not in "buif":
        raise InputError(f"{name} holds {array.dtype}: labels are integers, target vectors floats")
    if kind == "f":
        if array.ndim == 1:
            raise InputError(
                f"{name} holds {array.dtype.name}, one a row: labels are integers "
                "(y.astype(int)), target vectors N x m (y.reshape(-1, 1))"
            )
        bad = ~np.isfinite(array).all(1)
        if bad.any():
            raise InputError(
                f"{name} is NaN or infinite in row {int(bad.argmax())}, and in {int(bad.sum())} "
                "rows in all: leave them out, or replace the values"
            )
    return array.astype(np.int64) if kind == "b" else array


def _one_hot(array: np.ndarray) -> bool:
    if array.shape[1] < 2:
        return False
    return bool(((array == 0) | (array == 1)).all() and ((array == 1).sum(1) == 1).all())


def _from_text(
    arrays: Sequence[np.ndarray], names: Sequence[str], num_classes: int | None
) -> Targets:
    for array, name in zip(arrays, names, strict=True):
        if array.dtype.kind != "U" or array.ndim != 1:
            raise InputError(f"{names[0]} holds names of classes; {name} must too, one a row")
    found = tuple(str(each) for each in np.unique(np.concatenate(arrays)))
    labels = [np.searchsorted(np.array(found), array) for array in arrays]
    if num_classes is not None and num_classes < len(found):
        raise InputError(f"num_classes={num_classes}, but {names[0]} holds {len(found)} names")
    return _labels(labels, names, found, num_classes, "names of classes, in sorted order")


def _labels(
    arrays: Sequence[np.ndarray],
    names: Sequence[str],
    class_names: tuple[str, ...],
    num_classes: int | None,
    note: str,
) -> Targets:
    most = MAX_CLASSES if num_classes is None else num_classes
    for array, name in zip(arrays, names, strict=True):
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= most:
            raise InputError(
                f"{name} holds labels from {low} to {high}, legal is 0 to {most - 1}; number the "
                "classes from 0"
            )
    classes = 1 + max(int(array.max()) for array in arrays)
    count = num_classes or max(classes, len(class_names))
    if class_names and classes > len(class_names):
        raise InputError(
            f"{names[0]} holds labels up to {classes - 1}, but there are {len(class_names)} names "
            "of classes; give one a class"
        )
    return Targets(tuple(a.astype(np.int64) for a in arrays), count, class_names, note)


def _vectors(
    arrays: Sequence[np.ndarray], names: Sequence[str], num_classes: int | None
) -> Targets:
    widths = [array.shape[1] for array in arrays]
    if len(set(widths)) > 1:
        raise InputError(
            f"{names[0]} holds target vectors of {widths[0]} numbers and {names[1]} of "
            f"{widths[1]}: give one length"
        )
    if num_classes is not None:
        raise InputError(
            f"num_classes={num_classes} goes with labels, but {names[0]} holds target vectors; "
            "leave it out"
        )
    floats = [a.astype(np.float32) if a.dtype.kind != "f" else a for a in arrays]
    return Targets(tuple(floats), widths[0])
