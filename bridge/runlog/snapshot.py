"""Hand a log to a program that knows HDF5 only, whoever is writing it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bridge.runlog.seal import copy_as_it_stands
from bridge.runlog.stream import open_log


@contextlib.contextmanager
def snapshot(path: Path) -> Iterator[BinaryIO]:
    """Open a log as an ordinary HDF5 file, every row in it verified.

    A sealed log is opened itself; of another the rows there are now are copied into a temporary
    file, as sealing would.

    Raises:
        InputError: no log, or a damaged one.
        StorageError: there is no room for the copy.
    """
    with tempfile.TemporaryDirectory(prefix="run-log-") as folder:
        with open_log(path) as log:
            shown = path if log.sealed else Path(folder) / "log.h5"
            if log.sealed:
                log.verify()
            else:
                copy_as_it_stands(log, shown)
        with shown.open("rb") as file:
            yield file
