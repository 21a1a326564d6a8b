"""Force files to the disk, so that they survive a power cut.

A file that is written and renamed is complete after a power cut only if its content was forced
before the rename. Its name survives only once the folder was forced, too.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def force(path: Path) -> None:
    """Force a file's content, or a folder's names, to the disk.

    Raises:
        OSError: the disk fails; it is no error if the system cannot force folders.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        # Some systems cannot open folders.
        if path.is_dir():
            return
        raise
    try:
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(fd)
    finally:
        os.close(fd)


def force_all(folder: Path) -> None:
    """Force a folder and everything in it to the disk.

    Raises:
        OSError: the disk fails.
    """
    for path in folder.rglob("*"):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            force(path)
    force(folder)


def make_folders(folder: Path) -> None:
    """Create a folder and its parents, and force their names to the disk.

    Raises:
        OSError: the system refuses.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        force(each.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Replace the content of a file; after a kill or a power cut it is either all new or all old.

    Raises:
        OSError: the disk is full or fails; the file is then unchanged.
    """
    new = path.with_name(f"{path.name}.new")
    # An existing link is not followed.
    new.unlink(missing_ok=True)
    new.write_bytes(content)
    force(new)
    os.replace(new, path)
    force(path.parent)
