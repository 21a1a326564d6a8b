"""QMNIST: MNIST rebuilt from its source, with 60,000 test images and eight labels per image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from bioplaus.data.idx import idx_header
from bioplaus.data.raw import Raw
from bioplaus.data.readers.idx import IdxReader, check_role, find_roles
from bioplaus.errors import InputError

_COLUMNS = 8
_INT32 = 0x0C
_OF_MNIST = 10_000
_SPLITS = ("test", "test10k", "test50k")


class QmnistReader(IdxReader):
    """IDX files with 8 integers per label; the first one is the class.

    The splits test10k and test50k are the test images inside and outside of MNIST.

    Source: Yadav, Bottou 2019 (arXiv 1905.10498), appendix.
    """

    name = "qmnist"
    form = "QMNIST (IDX files qmnist-train-images-idx3-ubyte, ..., plain or .gz)"
    homes = ("raw", "QMNIST/raw", "QMNIST")
    rank = 1

    def recognises(self, place: Path) -> bool:
        if not place.is_dir():
            return False
        return any(
            "train labels" in roles and idx_header(roles["train labels"]) == (_INT32, 2)
            for roles in find_roles(place).values()
        )

    def read(self, place: Path, split: str | None) -> Raw:
        if split is not None and split not in _SPLITS:
            raise InputError(f"split={split!r} is not in QMNIST: use one of {', '.join(_SPLITS)}")
        raw = super().read(place, None)
        facts = {"labels": "the first of 8 columns: the class"}
        raw = dataclasses.replace(raw, format="QMNIST, IDX files", facts=facts)
        test = raw.test
        if split in (None, "test"):
            return raw
        if test is None or len(test.inputs) <= _OF_MNIST:
            count = 0 if test is None else len(test.inputs)
            raise InputError(
                f"split={split!r} parts 60,000 test images, but {place} has {count}; leave it out"
            )
        rows = slice(0, _OF_MNIST) if split == "test10k" else slice(_OF_MNIST, None)
        chosen = dataclasses.replace(test, inputs=test.inputs[rows], targets=test.targets[rows])
        return dataclasses.replace(raw, test=chosen, facts=facts | {"split": split})

    def decode(self, role: str, path: Path, array: np.ndarray) -> np.ndarray:
        if role.endswith("labels") and array.ndim == 2 and array.shape[1] == _COLUMNS:
            array = array[:, 0]
        return check_role(role, path, array)
