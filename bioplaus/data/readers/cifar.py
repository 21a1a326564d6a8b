"""CIFAR-10 and CIFAR-100, binary versions: labels and 3 x 32 x 32 bytes per image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from bioplaus.data.raw import Part, Raw
from bioplaus.data.reader import (
    AbstractReader,
    hidden,
    others,
    read_bytes,
    refuse_split,
    sha256_of,
    visible,
)
from bioplaus.errors import InputError

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_BATCH = re.compile(r"data_batch_\d+\.bin")
_PICKLED = ("data_batch_1", "test_batch", "train", "test")


@dataclass(frozen=True)
class _Labels:
    """One of the labels that precede each image.

    Attributes:
        column: index of the label.
        classes: number of classes.
        names: file with the class names, one per line.
    """

    column: int
    classes: int
    names: str


class AbstractCifarReader(AbstractReader):
    """Files of records without header: one byte per label, then red, green and blue, row by row.

    Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
    """

    labels: ClassVar[Mapping[str, _Labels]]

    def sides(self, files: Sequence[str]) -> tuple[list[str], list[str]]:
        """The files of the training set and those of the test set."""
        raise NotImplementedError

    def read(self, place: Path, split: str | None) -> Raw:
        if len(self.labels) == 1:
            refuse_split(split, self.form)
        chosen = split or next(iter(self.labels))
        if chosen not in self.labels:
            legal = ", ".join(self.labels)
            raise InputError(f"split={split!r} is not in {self.form}: use one of {legal}")
        labels = self.labels[chosen]
        files = visible(place)[0]
        sides = self.sides(files)
        if not sides[0]:
            raise InputError(f"{place} has no training images: {self.form} are expected there")
        parts, digests = [], []
        for names in filter(None, sides):
            read = [self._records(place / name, labels) for name in names]
            digests += [digest for _, digest in read]
            records = np.concatenate([each for each, _ in read])
            parts.append(
                Part(
                    records[:, -_PIXELS:].reshape(-1, *_SHAPE),
                    records[:, labels.column].astype(np.int64),
                    str(place / names[0]),
                    str(place / names[0]),
                )
            )
        read_names = [*sides[0], *sides[1], labels.names]
        return Raw(
            train=parts[0],
            test=parts[1] if len(parts) > 1 else None,
            format=self.form,
            digests=tuple(digests),
            files=tuple(name for name in read_names if name in files),
            left_out=(*others(files, read_names), *hidden(place)),
            facts={} if len(self.labels) == 1 else {"split": f"{chosen} labels"},
            warnings=tuple(self.doubts(sides[0])),
            class_names=_class_names(place / labels.names, labels.classes),
            num_classes=labels.classes,
            channels="first",
        )

    def doubts(self, batches: Sequence[str]) -> list[str]:
        """Warnings about the files found."""
        del batches
        return []

    def _records(self, path: Path, labels: _Labels) -> tuple[np.ndarray, str]:
        data = read_bytes(path)
        length = _PIXELS + len(self.labels)
        if not data or len(data) % length:
            raise InputError(
                f"{path} is {'empty' if not data else 'truncated'}: {len(data)} bytes are no whole "
                f"number of images of {length}; get a fresh copy"
            )
        records = np.frombuffer(data, np.uint8).reshape(-1, length)
        for column, each in enumerate(self.labels.values()):
            highest = int(records[:, each.column].max())
            if highest >= each.classes:
                row = int((records[:, each.column] >= each.classes).argmax())
                raise InputError(
                    f"{path} has label {int(records[row, column])} at image {row}, legal is 0 to "
                    f"{each.classes - 1}: it is damaged, or of another format"
                )
        return records, sha256_of(data)


class Cifar10Reader(AbstractCifarReader):
    """data_batch_1.bin to data_batch_5.bin and test_batch.bin."""

    name = "cifar-10"
    form = "CIFAR-10's binary files (data_batch_1.bin, ..., test_batch.bin)"
    homes = ("cifar-10-batches-bin",)
    labels: ClassVar = {"classes": _Labels(0, 10, "batches.meta.txt")}

    def recognises(self, place: Path) -> bool:
        return place.is_dir() and any(self.sides(visible(place)[0]))

    def sides(self, files: Sequence[str]) -> tuple[list[str], list[str]]:
        train = [name for name in files if _BATCH.fullmatch(name)]
        return train, [name for name in files if name == "test_batch.bin"]

    def doubts(self, batches: Sequence[str]) -> list[str]:
        wanted = [f"data_batch_{k}.bin" for k in range(1, 6)]
        missing = [name for name in wanted if name not in batches]
        verb = "is" if len(missing) == 1 else "are"
        return [f"{', '.join(missing)} {verb} not there: trained on the rest"] if missing else []

    def near_miss(self, place: Path) -> str:
        folders = [place, place / "cifar-10-batches-py", place / "cifar-100-python"]
        for folder in folders:
            if folder.is_dir() and any((folder / name).is_file() for name in _PICKLED):
                return (
                    f"{folder} seems to be CIFAR's Python version: pickles, which can run code "
                    "when they are read; get the binary version (cifar-10-binary.tar.gz)"
                )
        return ""


class Cifar100Reader(AbstractCifarReader):
    """train.bin and test.bin; the split is fine (100 classes) or coarse (20)."""

    name = "cifar-100"
    form = "CIFAR-100's binary files (train.bin, test.bin)"
    homes = ("cifar-100-binary",)
    labels: ClassVar = {
        "fine": _Labels(1, 100, "fine_label_names.txt"),
        "coarse": _Labels(0, 20, "coarse_label_names.txt"),
    }

    def recognises(self, place: Path) -> bool:
        if not place.is_dir():
            return False
        train, test = self.sides(visible(place)[0])
        named = any((place / each.names).is_file() for each in self.labels.values())
        whole = all((place / name).stat().st_size % (_PIXELS + 2) == 0 for name in train + test)
        return bool(train) and (named or whole)

    def sides(self, files: Sequence[str]) -> tuple[list[str], list[str]]:
        return (
            [name for name in files if name == "train.bin"],
            [name for name in files if name == "test.bin"],
        )


def _class_names(path: Path, classes: int) -> tuple[str, ...]:
    """The lines of a file of names; empty if it is missing or has the wrong number of lines."""
    if not path.is_file():
        return ()
    lines = read_bytes(path).decode("utf-8", "replace").split("\n")
    names = tuple(line.strip() for line in lines if line.strip())
    return names if len(names) == classes else ()
