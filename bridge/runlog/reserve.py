"""Reserve disk space for what HDF5 is about to write.

After a failed write, HDF5 can neither close the file nor let the process end: it crashes, and the
log cannot be read (measured). So no write may fail for lack of space. The space is reserved first,
and if there is none, the log stops while the file is still intact.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py

from bridge.runlog import superblock

# For closing, and for the chunk indices that a block needs besides its rows.
_MARGIN = 1 << 16


class Reserve:
    """Space past the end of a growing file; on copy-on-write file systems it is a guess."""

    def __init__(self, file: h5py.File) -> None:
        """Take a file.

        Args:
            file: open for writing, with the system's own driver.
        """
        self._file = file.id
        self._fd = file.id.get_vfd_handle()
        self._start = 0

    def hold(self, nbytes: int) -> None:
        """Make sure that so many more bytes can be written, and the file closed afterwards.

        Args:
            nbytes: in addition to what HDF5 has already allocated.

        Raises:
            OSError: there is not enough space.
        """
        if not hasattr(os, "posix_fallocate"):
            return
        end = self._file.get_filesize()
        start = min(self._start, end)
        os.posix_fallocate(self._fd, start, end - start + nbytes + _MARGIN)
        self._start = end


def give_back(path: Path) -> None:
    """Cut off the space that a closed file did not need."""
    with path.open("r+b") as file:
        end = superblock.end(file.read(superblock.SIZE))
        if end < os.fstat(file.fileno()).st_size:
            file.truncate(end)
