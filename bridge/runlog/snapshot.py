"""Make a log readable for programs that know only HDF5, even while it is being written."""

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
    """Open a log as an ordinary HDF5 file, with every row verified.

    A sealed log is opened directly. For any other log the present rows are copied into a temporary
    file, as sealing would do.

    Raises:
        InputError: it is not a log, or it is damaged.
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
