"""New files and folders: complete or not there at all, and replacing others only on request."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from bridge.disk import force, force_all
from bridge.errors import InputError, StorageError

DISK_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def check_new_file(option: str, path: Path, overwrite: bool = False) -> None:
    """Refuse what `new_file` would refuse, before the work is done.

    Args:
        option: the option that the user gave the path with, for the message.
        path: the file to create.
        overwrite: whether an existing file may be replaced.

    Raises:
        InputError: it is a folder, it exists, or its folder does not exist.
    """
    if path.is_dir():
        raise InputError(f"{option} {path}: a folder; give a file")
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{option} {path}: exists; choose another name, or add --overwrite")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.parent}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path}: the folder {path.parent} cannot be written")


@contextlib.contextmanager
def new_file(option: str, path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give the path of a temporary file, which is renamed to the new one after the block.

    Args:
        option, path, overwrite: as for `check_new_file`.

    Raises:
        InputError: as for `check_new_file`.
        StorageError: the disk is full or fails.
    """
    check_new_file(option, path, overwrite)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        yield temporary
        force(temporary)
        publish(temporary, path, overwrite)
        force(path.parent)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_new_folder(option: str, folder: Path) -> None:
    """Refuse a folder that is not empty or cannot be created.

    Raises:
        InputError: it is not empty or cannot be created.
    """
    if folder.is_dir() and not folder.is_symlink():
        with contextlib.suppress(OSError):
            if not any(folder.iterdir()):
                return
        raise InputError(f"{option} {folder}: is not empty; give a new folder")
    if os.path.lexists(folder):
        raise InputError(f"{option} {folder}: exists and is no folder; give a new folder")
    parent = folder.absolute().parent
    if not parent.is_dir():
        raise InputError(f"{option} {folder}: there is no folder {folder.parent}; make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{option} {folder}: the folder {folder.parent} cannot be written")


@contextlib.contextmanager
def new_folder(option: str, folder: Path) -> Iterator[Path]:
    """Give the path of a temporary folder, which is renamed to the new one after the block.

    Args:
        option, folder: as for `check_new_folder`.

    Raises:
        InputError: as for `check_new_folder`.
        StorageError: the disk is full or fails.
    """
    check_new_folder(option, folder)
    folder = folder.absolute()
    temporary = folder.with_name(f".{folder.name[:100]}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir()
        yield temporary
        force_all(temporary)
        os.replace(temporary, folder)
        force(folder.parent)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give a file its final name, in one step.

    Raises:
        InputError: a file of that name exists, and may not be replaced.
        OSError: the system refuses.
    """
    if overwrite:
        os.replace(temporary, path)
        return
    try:
        # Unlike a rename, a link never replaces a file that was created meanwhile.
        os.link(temporary, path)
    except FileExistsError:
        raise InputError(f"{path}: exists; choose another name") from None
    except OSError:
        os.rename(temporary, path)
