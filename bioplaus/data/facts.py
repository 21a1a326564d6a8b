"""What labelled images are like: plain facts, and what is likely to spoil a training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_MOST_COUNTED = 100
"""Classes above this number are counted together."""


@dataclass(frozen=True)
class Facts:
    """Facts by name, in the order in which they are told, and warnings, a line each."""

    of: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def image_facts(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: int,
    values: str,
    notes: Sequence[str] = (),
) -> Facts:
    """Look at the images and labels that a run uses, as they are stored.

    Args:
        train: images [N, ...] and labels [N].
        test: likewise.
        classes: number of outputs.
        values: their range, in words.
        notes: warnings from reading them.
    """
    counts = [np.bincount(labels, minlength=classes) for _, labels in (train, test)]
    dead = np.flatnonzero((counts[0] == 0) & (counts[1] == 0))
    unlearned = np.flatnonzero((counts[0] == 0) & (counts[1] > 0))
    untested = np.flatnonzero((counts[0] > 0) & (counts[1] == 0))
    constant = sum(_constant(images) for images, _ in (train, test))
    same = _equal_images(train, test)
    shape = train[0].shape[1:]
    facts = {
        "train images": len(train[0]),
        "test images": len(test[0]),
        "shape": " x ".join(map(str, shape)),
        "values": values,
        "classes": classes,
        "train images a class": _by_class(counts[0]),
        "test images a class": _by_class(counts[1]),
        "classes without an image": _named(dead),
        "classes in the test set only": _named(unlearned),
        "classes in the training set only": _named(untested),
        "images of one grey level": constant,
        "training images seen before": same["train"],
        "test images seen before": same["test"],
        "test images that are in the training set": same["both"],
        "equal images with different labels": same["contradictory"],
    }
    warnings = [*notes, *_about_classes(counts[0], dead, unlearned)]
    if constant:
        warnings.append(f"{_times(constant, 'image')} of one grey level: black, or nothing in them")
    if same["both"]:
        warnings.append(f"{_times(same['both'], 'test image')} also in the training set")
    if same["contradictory"]:
        told = _times(same["contradictory"], "image")
        warnings.append(f"{told} equal to an earlier one that has another label")
    return Facts(facts, tuple(warnings))


def _about_classes(train: np.ndarray, dead: np.ndarray, unlearned: np.ndarray) -> list[str]:
    told = []
    if len(dead):
        start = "; labels begin at 1?" if dead.tolist() == [0] else ""
        told.append(
            f"{len(dead)} of {len(train)} outputs have no image (class {_named(dead)}): they learn "
            f"to be silent{start}"
        )
    if len(unlearned):
        told.append(
            f"class {_named(unlearned)} in the test set only: its images cannot be recognised"
        )
    if (train > 0).sum() == 1:
        told.append(f"all training images are of class {int(train.argmax())}")
    return told


def _by_class(counts: np.ndarray) -> Any:
    if len(counts) <= _MOST_COUNTED:
        return {str(k): int(n) for k, n in enumerate(counts)}
    return f"{counts.min()} to {counts.max()}"


def _named(classes: np.ndarray) -> str:
    """Name classes, runs of them as "0 to 198"; "" if there are none."""
    if not len(classes):
        return ""
    runs = np.split(classes, np.flatnonzero(np.diff(classes) != 1) + 1)
    told = [f"{r[0]}" if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in runs]
    return ", ".join(told[:5]) + (f" and {len(told) - 5} more" if len(told) > 5 else "")


def _constant(images: np.ndarray) -> int:
    flat = images.reshape(len(images), -1)
    return int((flat.min(1) == flat.max(1)).sum())


def _times(count: int, noun: str) -> str:
    return f"{count} {noun} is" if count == 1 else f"{count} {noun}s are"


def _equal_images(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> dict[str, int]:
    """Count images that were there before, within each part and across, and with other labels.

    Test images are held against training images only where both are stored in one type.
    """
    seen: dict[bytes, int] = {}
    count = {"train": 0, "test": 0, "both": 0, "contradictory": 0}
    count["train"], count["contradictory"] = _compare(train, seen)
    own: dict[bytes, int] = {}
    known = seen if train[0].dtype == test[0].dtype else {}
    for digest, label in _digests(test):
        count["test"] += digest in own
        count["both"] += digest in known
        first = known.get(digest, own.get(digest, label))
        count["contradictory"] += first != label
        own.setdefault(digest, label)
    return count


def _compare(part: tuple[np.ndarray, np.ndarray], seen: dict[bytes, int]) -> tuple[int, int]:
    repeated = contradictory = 0
    for digest, label in _digests(part):
        if digest in seen:
            repeated += 1
            contradictory += seen[digest] != label
        else:
            seen[digest] = label
    return repeated, contradictory


def _digests(part: tuple[np.ndarray, np.ndarray]) -> list[tuple[bytes, int]]:
    images = np.ascontiguousarray(part[0]).reshape(len(part[0]), -1).view(np.uint8)
    made = [hashlib.blake2b(row, digest_size=16).digest() for row in images]
    return list(zip(made, part[1].tolist(), strict=True))
