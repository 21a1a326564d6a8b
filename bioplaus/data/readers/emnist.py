"""EMNIST: handwritten letters and digits, six data sets in one folder."""

from __future__ import annotations

import dataclasses
import string
from pathlib import Path

import numpy as np

from bioplaus.data.raw import Part, Raw
from bioplaus.data.readers.idx import IdxReader

_DIGITS, _UPPER = string.digits, string.ascii_uppercase
_MERGED = _DIGITS + _UPPER + "abdefghnqrt"
_CLASSES = {
    "byclass": _DIGITS + _UPPER + string.ascii_lowercase,
    "bymerge": _MERGED,
    "balanced": _MERGED,
    "letters": _UPPER,
    "digits": _DIGITS,
    "mnist": _DIGITS,
}


class EmnistReader(IdxReader):
    """IDX files `emnist-SPLIT-train-images-idx3-ubyte`, ...; letters are numbered from 1.

    Source: Cohen, Afshar, Tapson, van Schaik 2017 (arXiv 1702.05373), table II.
    """

    name = "emnist"
    form = "EMNIST (IDX files emnist-letters-train-images-idx3-ubyte, ..., plain or .gz)"
    homes = ("raw", "gzip", "EMNIST/raw", "EMNIST/raw/gzip", "EMNIST", "EMNIST/gzip")
    rank = 1
    prefix = "emnist"

    def read(self, place: Path, split: str | None) -> Raw:
        raw = super().read(place, split)
        chosen = next((name for name in _CLASSES if f"-{name}-" in raw.files[0].lower()), None)
        facts = {"split": chosen, "orientation": "transposed, as EMNIST stores its images"}
        raw = dataclasses.replace(raw, format="EMNIST, IDX files", facts=facts)
        if chosen is None:
            return raw
        classes = _CLASSES[chosen]
        if chosen == "letters" and all(_from_one(part.targets, len(classes)) for part in raw.parts):
            facts = {**facts, "labels": "1 to 26 in the files, made 0 to 25"}
            train, *test = (_moved(part) for part in raw.parts)
            raw = dataclasses.replace(raw, train=train, test=test[0] if test else None, facts=facts)
        if all(int(part.targets.max()) < len(classes) for part in raw.parts):
            raw = dataclasses.replace(raw, class_names=tuple(classes))
        return raw


def _from_one(labels: np.ndarray, classes: int) -> bool:
    return int(labels.min()) >= 1 and int(labels.max()) <= classes


def _moved(part: Part) -> Part:
    return dataclasses.replace(part, targets=part.targets.astype(np.int64) - 1)
