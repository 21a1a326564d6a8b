"""Force what was written to the disk, so that a power cut leaves it there.

A file that is written and renamed is whole after a power cut only if its content was forced before
the rename; and its name is there only once the folder was forced, too.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def force(path: Path) -> None:
    """Force a file's content, or a folder's names, to the disk.

    Raises:
        OSError: the disk fails; a folder that the system cannot force is no failure.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        # Some systems do not open folders.
        if path.is_dir():
            return
        raise
    try:
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(fd)
    finally:
        os.close(fd)


def force_all(folder: Path) -> None:
    """Force a folder to the disk with all that lies in it.

    Raises:
        OSError: the disk fails.
    """
    for path in folder.rglob("*"):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            force(path)
    force(folder)


def make_folders(folder: Path) -> None:
    """Make a folder and those on the way to it, and force their names to the disk.

    Raises:
        OSError: the system refuses.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        force(each.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Give a file new content, all of it or, after a kill or a power cut, none.

    Raises:
        OSError: the disk is full or fails; the file is then as it was.
    """
    new = path.with_name(f"{path.name}.new")
    # A link that stands there is not followed.
    new.unlink(missing_ok=True)
    new.write_bytes(content)
    force(new)
    os.replace(new, path)
    force(path.parent)
