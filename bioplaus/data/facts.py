"""Facts about examples, and warnings about what is likely to spoil training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_MOST_COUNTED = 100
"""Above this number, classes are counted rather than listed."""


@dataclass(frozen=True)
class Facts:
    """Facts by name, in the order in which they are reported, and warnings, one line each."""

    of: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


Part = tuple[np.ndarray, np.ndarray]
"""Inputs [N, ...] and targets, labels [N] or vectors [N, m]."""


def facts_of(
    parts: Sequence[Part],
    classes: int,
    class_names: Sequence[str],
    values: str,
    more_facts: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> Facts:
    """Collect facts about the examples that a run uses, as they are stored.

    Args:
        parts: the training set, and the test set if there is one.
        classes: number of outputs.
        class_names: name of each label, if known.
        values: their range, in words.
        more_facts: further facts.
        notes: warnings from reading them.
    """
    noun = "images" if parts[0][0].ndim > 2 else "rows"
    labelled = parts[0][1].ndim == 1
    sides = ("train", "test")[: len(parts)]
    shape = " x ".join(map(str, parts[0][0].shape[1:]))
    facts: dict[str, Any] = {
        f"{side} {noun}": len(inputs) for side, (inputs, _) in zip(sides, parts, strict=True)
    }
    facts |= {"shape": shape, "values": values}
    warnings = list(notes)
    if labelled:
        facts["classes"] = classes
        if class_names:
            facts["class names"] = list(class_names)
        found, doubts = _class_facts(parts, classes, noun)
        facts |= found
        warnings += doubts
    else:
        facts["numbers a target"] = classes
    constant = sum(_constant(inputs) for inputs, _ in parts)
    same = _equal_inputs(parts, labelled)
    facts |= {
        "images of one grey level" if noun == "images" else "rows of one value": constant,
        f"training {noun} seen before": same["train"],
    }
    if len(parts) > 1:
        facts |= {
            f"test {noun} seen before": same["test"],
            f"test {noun} that are in the training set": same["both"],
        }
    if labelled:
        facts[f"equal {noun} with different labels"] = same["contradictory"]
    one = noun[:-1]
    if constant and noun == "images":
        warnings.append(f"{_times(constant, 'image')} of one grey level: black, or nothing in them")
    if same["both"]:
        warnings.append(f"{_times(same['both'], f'test {one}')} also in the training set")
    if same["contradictory"]:
        times = _times(same["contradictory"], one)
        warnings.append(f"{times} equal to an earlier one that has another label")
    facts |= {name: value for name, value in more_facts.items() if value}
    return Facts(facts, tuple(warnings))


def _class_facts(
    parts: Sequence[Part], classes: int, noun: str
) -> tuple[dict[str, Any], list[str]]:
    counts = [np.bincount(labels, minlength=classes) for _, labels in parts]
    total = sum(counts)
    dead = np.flatnonzero(total == 0)
    unlearned = np.flatnonzero((counts[0] == 0) & (total > 0))
    facts: dict[str, Any] = {
        f"{side} {noun} a class": _by_class(count)
        for side, count in zip(("train", "test"), counts, strict=False)
    }
    one = "image" if noun == "images" else "row"
    facts[f"classes without {'an' if one == 'image' else 'a'} {one}"] = _named(dead)
    if len(parts) > 1:
        untested = np.flatnonzero((counts[0] > 0) & (counts[1] == 0))
        facts["classes in the test set only"] = _named(unlearned)
        facts["classes in the training set only"] = _named(untested)
    return facts, _about_classes(counts[0], dead, unlearned)


def _about_classes(train: np.ndarray, dead: np.ndarray, unlearned: np.ndarray) -> list[str]:
    notes = []
    if len(dead):
        start = "; labels begin at 1?" if dead.tolist() == [0] else ""
        notes.append(
            f"{len(dead)} of {len(train)} outputs have no image (class {_named(dead)}): they learn "
            f"to be silent{start}"
        )
    if len(unlearned):
        notes.append(
            f"class {_named(unlearned)} in the test set only: its images cannot be recognised"
        )
    if (train > 0).sum() == 1:
        notes.append(f"all training images are of class {int(train.argmax())}")
    return notes


def _by_class(counts: np.ndarray) -> Any:
    if len(counts) <= _MOST_COUNTED:
        return {str(k): int(n) for k, n in enumerate(counts)}
    return f"{counts.min()} to {counts.max()}"


def _named(classes: np.ndarray) -> str:
    """Format class numbers, with ranges as "0 to 198"; "" if there are none."""
    if not len(classes):
        return ""
    runs = np.split(classes, np.flatnonzero(np.diff(classes) != 1) + 1)
    spans = [f"{r[0]}" if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in runs]
    return ", ".join(spans[:5]) + (f" and {len(spans) - 5} more" if len(spans) > 5 else "")


def _constant(inputs: np.ndarray) -> int:
    flat = inputs.reshape(len(inputs), -1)
    if flat.shape[1] == 1:
        return 0
    return int((flat.min(1) == flat.max(1)).sum())


def _times(count: int, noun: str) -> str:
    return f"{count} {noun} is" if count == 1 else f"{count} {noun}s are"


def _equal_inputs(parts: Sequence[Part], labelled: bool) -> dict[str, int]:
    """Count duplicate inputs within each part and across parts, and those with different labels.

    Test inputs are compared with training inputs only if both are stored in the same type.
    """
    count = {"train": 0, "test": 0, "both": 0, "contradictory": 0}
    seen: dict[bytes, int] = {}
    for digest, label in _digests(parts[0], labelled):
        count["train"] += digest in seen
        count["contradictory"] += seen.setdefault(digest, label) != label
    if len(parts) == 1:
        return count
    own: dict[bytes, int] = {}
    known = seen if parts[0][0].dtype == parts[1][0].dtype else {}
    for digest, label in _digests(parts[1], labelled):
        count["test"] += digest in own
        count["both"] += digest in known
        count["contradictory"] += known.get(digest, own.get(digest, label)) != label
        own.setdefault(digest, label)
    return count


def _digests(part: Part, labelled: bool) -> list[tuple[bytes, int]]:
    inputs, targets = part
    rows = np.ascontiguousarray(inputs).reshape(len(inputs), -1).view(np.uint8)
    made = [hashlib.blake2b(row, digest_size=16).digest() for row in rows]
    return list(zip(made, targets.tolist() if labelled else [0] * len(made), strict=True))
