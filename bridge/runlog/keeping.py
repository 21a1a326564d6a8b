"""Files inside a sealed log: the last state of its run, from which it can be extended.

They are stored byte by byte in the group `/last_state`, whose attribute `step` is their step. Their
reader must check whether they are complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from bridge.runlog import guard

_GROUP = "last_state"
_BLOCK = 1 << 24


def put_files(file: h5py.File, folder: Path, step: int) -> None:
    """Copy the files of a folder into a log that is about to be sealed.

    Args:
        file: the log.
        folder: holds only files, none of them empty.
        step: the step of the files, >= 0.
    """
    group = file.create_group(_GROUP)
    group.attrs["NX_class"] = "NXcollection"
    group.attrs["step"] = np.int64(step)
    for path in sorted(folder.iterdir()):
        size = path.stat().st_size
        into = group.create_dataset(path.name, shape=(size,), dtype="u1")
        with path.open("rb") as source:
            for start in range(0, size, _BLOCK):
                block = np.frombuffer(source.read(_BLOCK), "u1")
                into[start : start + len(block)] = block


def size_of(folder: Path) -> int:
    """Add up the bytes of a folder's files."""
    return sum(each.stat().st_size for each in folder.iterdir())


def kept_step(path: Path) -> int | None:
    """Give the step of the files in a log; None if it holds none.

    Raises:
        InputError: the log is missing or damaged.
    """
    with guard.opened(path) as (file, _):
        if file.get(_GROUP, getlink=True) is None:
            return None
        return guard.whole_number(guard.group(file, _GROUP), "step")


def take_files(path: Path, names: Sequence[str], folder: Path) -> None:
    """Write files stored in a log into a folder, unchanged.

    Args:
        path: the log.
        names: of the files.
        folder: the folder to write to.

    Raises:
        InputError: the log lacks such a file, or it is damaged.
        OSError: the disk is full or fails.
    """
    with guard.opened(path) as (file, _):
        group = guard.group(file, _GROUP)
        for name in names:
            found = guard.column(group, name, np.dtype("u1"))
            guard.check_size(found, found.shape[0], limit=1 << 62)
            with (folder / name).open("wb") as target:
                for start in range(0, found.shape[0], _BLOCK):
                    target.write(found[start : start + _BLOCK].tobytes())
