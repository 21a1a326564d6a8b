"""The interface of readers, and their shared functions: folder listings, hashes, errors."""

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

    A reader is found if its class is in a module of `bioplaus.data.readers`, if an installed
    package has an entry point for it in the group `bioplaus.readers`, or if the user names it:
    `--set data.reader=mine.py:Reader`.

    Attributes:
        name: name for the user.
        form: the format that it reads, in a few words.
        homes: further folders to search, relative to the one that the user names, e.g.
            "MNIST/raw" if the user names torchvision's root.
        rank: if several readers recognise a folder, the one with the highest rank reads it.
    """

    name: ClassVar[str]
    form: ClassVar[str]
    homes: ClassVar[Sequence[str]] = ()
    rank: ClassVar[int] = 0

    @abstractmethod
    def recognises(self, place: Path) -> bool:
        """Whether a file or a folder has this format, judged by names and first bytes."""

    @abstractmethod
    def read(self, place: Path, split: str | None) -> Any:
        """Read a file or a folder.

        Args:
            place: a place that this reader has recognised, or that the user has given to it.
            split: selects one of several data sets; None if the user does not specify it.

        Returns:
            A `Raw`; or arrays, (x_train, y_train) or (x_train, y_train, x_test, y_test), as for
            `Dataset.from_arrays`.

        Raises:
            InputError: something is missing or damaged, or the split does not exist; one line.
        """

    def near_miss(self, place: Path) -> str:
        """Say what an unrecognised place lacks for this reader; "" if it does not come close."""
        del place
        return ""


def visible(folder: Path) -> tuple[list[str], list[str]]:
    """List a folder's files and subfolders, each sorted, without those that start with a dot.

    macOS leaves a `._NAME` beside every file that it copies.

    Raises:
        InputError: the folder cannot be listed.
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
    """Report how many files of a folder start with a dot and are not read; empty if none."""
    count = sum(name.startswith(".") for name in os.listdir(folder))
    return (f"{count} {'file' if count == 1 else 'files'}: begin with a dot",) if count else ()


def others(names: Sequence[str], read: Sequence[str], why: str = "not read") -> list[str]:
    """Report which files of a folder are not read, or how many if there are many."""
    left = [name for name in names if name not in set(read)]
    if len(left) > 5:
        return [f"{len(left)} files ({left[0]} ... {left[-1]}): {why}"]
    return [f"{name}: {why}" for name in left]


def refuse_split(split: str | None, form: str) -> None:
    """Reject a split for a format that has none.

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
    """The hexadecimal sha256 of some data."""
    return hashlib.sha256(data).hexdigest()
