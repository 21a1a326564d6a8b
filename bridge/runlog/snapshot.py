"""Hand a log to a program that knows HDF5 only, whoever is writing it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bridge.runlog.reader import read_contents
from bridge.runlog.seal import copy_as_it_stands


@contextlib.contextmanager
def snapshot(path: Path) -> Iterator[BinaryIO]:
    """Open a log as an ordinary HDF5 file, every row in it verified.

    A sealed log is opened itself; of another the rows there are now are copied into a temporary
    file, as sealing would.

    Raises:
        InputError: no log, or a damaged one.
        StorageError: there is no room for the copy.
    """
    contents = read_contents(path)
    if contents.sealed:
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryDirectory(prefix="run-log-") as folder:
        copy = Path(folder) / "log.h5"
        copy_as_it_stands(path, contents, copy)
        with copy.open("rb") as file:
            yield file
