"""What a reader is, and what readers share: names in a folder, hashes, damaged files."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from bioplaus.errors import InputError


class AbstractReader(ABC):
    """Reads one format.

    A reader is found where its class lies in a module of `bioplaus.data.readers`, where an
    installed package has an entry point of the group `bioplaus.readers` for it, or where the user
    names it: `--set data.reader=mine.py:Reader`.

    Attributes:
        name: how the user calls it.
        form: what it reads, in a few words.
        homes: folders in which it looks beside the one that the user names, relative to that, e.g.
            "MNIST/raw" for one that names torchvision's root.
        rank: of several readers that recognise a folder the one of the highest rank reads it.
    """

    name: ClassVar[str]
    form: ClassVar[str]
    homes: ClassVar[Sequence[str]] = ()
    rank: ClassVar[int] = 0

    @abstractmethod
    def recognises(self, place: Path) -> bool:
        """Tell whether a file or a folder is of this format, by a look at names and first bytes."""

    @abstractmethod
    def read(self, place: Path, split: str | None) -> Any:
        """Read a file or a folder.

        Args:
            place: that this reader has recognised, or that the user has given to it.
            split: which of several data sets is meant; None if the user does not say.

        Returns:
            A `Raw`; or arrays, (x_train, y_train) or (x_train, y_train, x_test, y_test), that are
            taken as `Dataset.from_arrays` takes them.

        Raises:
            InputError: something is missing or damaged, or there is no such split; one line.
        """

    def near_miss(self, place: Path) -> str:
        """Say what a place lacks that this reader does not recognise; "" if it is far from it."""
        del place
        return ""


def visible(folder: Path) -> tuple[list[str], list[str]]:
    """List a folder's files and folders, each sorted, without those that begin with a dot.

    A Mac leaves a `._NAME` beside every file that it copies.

    Raises:
        InputError: it cannot be listed.
    """
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name != "__MACOSX":
                    (folders if entry.is_dir() else files if entry.is_file() else []).append(
                        entry.name
                    )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder} cannot be listed ({reason}): name a folder of data") from None
    return sorted(files), sorted(folders)


def hidden(folder: Path) -> tuple[str, ...]:
    """Say how many files of a folder begin with a dot and are not read; nothing if none."""
    count = sum(name.startswith(".") for name in os.listdir(folder))
    return (f"{count} {'file' if count == 1 else 'files'}: begin with a dot",) if count else ()


def others(names: Sequence[str], read: Sequence[str], why: str = "not read") -> list[str]:
    """Say which files of a folder are not read; of many, how many."""
    left = [name for name in names if name not in set(read)]
    if len(left) > 5:
        return [f"{len(left)} files ({left[0]} ... {left[-1]}): {why}"]
    return [f"{name}: {why}" for name in left]


def refuse_split(split: str | None, form: str) -> None:
    """Refuse a split where there are none.

    Raises:
        InputError: one is given.
    """
    if split is not None:
        raise InputError(f"split={split!r} has no effect: {form} have no splits; leave it out")


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from None


def sha256_of(data: bytes) -> str:
    """Sha256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()
