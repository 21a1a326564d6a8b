"""Output folders of a command: complete, or not there at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bioplaus_cli.options import TrainingOptions
from bridge.disk import force, force_all, make_folders
from bridge.errors import InputError, StorageError

if TYPE_CHECKING:
    from bridge.runlog import RunLog

NOTE = "folder"
"""Kind of the event that records where a run saves, and whether it may replace what is there.

Without it, a run that was killed after renaming its folder and before sealing its log would, when
resumed, refuse the folder that it has written itself.
"""


def choose_folder(given: Path | None, log: Path, options: TrainingOptions) -> tuple[Path, bool]:
    """Choose where a run saves, and whether it may replace what is there; refuse before any work.

    Args:
        given: on the command line; None means the folder given before the run was interrupted, or
            else one next to the log.
        log: the run's log.
        options: of the command line: resume, overwrite.

    Raises:
        InputError: see `check_new_folder`; or only the log names a folder that is not next to it.
    """
    from bridge.runlog import read_run

    events = read_run(log).events if options["resume"] and log.exists() else ()
    notes = [event for event in events if event["kind"] == NOTE]
    path = None if given is None else str(given.absolute())
    if notes and given is None:
        path = notes[-1]["path"]
        # A log from an unknown source could name any folder to replace.
        if path and not Path(os.path.normpath(path)).is_relative_to(log.absolute().parent):
            raise InputError(
                f"{log}: its model goes to {path}, not beside it; give --save {path} to go on"
            )
    folder = given or (Path(path) if path else log.with_suffix(""))
    if folder.absolute() == log.absolute():
        raise InputError(
            f"{folder}: would be the log and the folder that is saved; give the log an ending, "
            f"as {folder}.h5, or the folder another name"
        )
    _remove_leftovers(folder)
    replace = options["overwrite"] or any(n["replace"] and n["path"] == path for n in notes)
    check_new_folder(folder, replace)
    return folder, replace


def note_folder(log: RunLog, given: Path | None, replace: bool) -> None:
    """Record the given folder for `choose_folder`, and whether it may be replaced from now on."""
    log.event(NOTE, path=None if given is None else str(given.absolute()), replace=replace)
    log.sync()


def check_new_folder(path: Path, overwrite: bool) -> None:
    """Refuse, before any work, a folder that cannot be created.

    Raises:
        InputError: it exists and `overwrite` is off, it is a file, or its parent is not writable.
    """
    if path.is_dir() and not path.is_symlink():
        if any(path.iterdir()) and not overwrite:
            raise InputError(f"{path}: exists; choose another --out, or replace it by --overwrite")
    elif os.path.lexists(path):
        raise InputError(f"{path}: a file; --out must be a folder")
    above = next(each for each in path.absolute().parents if each.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise InputError(f"{path}: {above} cannot be written; choose another --out")


@contextmanager
def new_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder, which is renamed to `path` if the block succeeds.

    Raises:
        InputError: see `check_new_folder`.
        StorageError: the disk is full or fails; an existing folder stays unchanged.
    """
    check_new_folder(path, overwrite)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        make_folders(path.parent)
        temporary.mkdir()
        yield temporary
        force_all(temporary)
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
        force(path.parent)
    except StorageError:
        raise
    except Exception as error:
        reason = _complaint(error)
        if not reason:
            raise
        raise StorageError(f"{path}: cannot be written: {reason}") from None
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
        _clear(old, path)


def _remove_leftovers(path: Path) -> None:
    """Remove folders that killed processes had begun to save here, or had set aside to replace."""
    from bridge.runlog.provenance import process_identity

    named = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.(new|old)")
    for each in path.parent.iterdir() if path.parent.is_dir() else ():
        found = named.fullmatch(each.name)
        if not found or process_identity(int(found[1])) or each.is_symlink():
            continue
        # Killed between two renames: the folder that was set aside is the only complete one.
        if found[2] == "old" and not os.path.lexists(path):
            os.rename(each, path)
        elif found[2] == "old":
            _clear(each, path)
        else:
            shutil.rmtree(each, ignore_errors=True)


_MADE = re.compile(
    r"(model|adapter_model|head)[^/]*\.safetensors(\.index\.json)?|adapter_config\.json|"
    r"(generation_|tokenizer_)?config\.json|tokenizer\.json|special_tokens_map\.json|"
    r"added_tokens\.json|vocab\.json|merges\.txt|chat_template\.jinja|preference\.json|README\.md"
)
"""Files of an older model that the new one may lack: none of them may stay."""
_KEPT = "kept"


def _clear(old: Path, new: Path) -> None:
    """Remove a replaced folder, after moving files that the program did not write to the new one.

    A foreign file in a subfolder that the program writes, such as `encoder`, goes to `kept`,
    because everything in the subfolder itself belongs to the model.
    """
    if not old.is_dir() or old.is_symlink():
        return
    try:
        for file in sorted(old.rglob("*")):
            name = file.relative_to(old)
            if (file.is_dir() and not file.is_symlink()) or _MADE.fullmatch(file.name):
                continue
            inside = len(name.parts) > 1 and os.path.lexists(new / name.parts[0])
            there = new / _KEPT / name if inside else new / name
            if not os.path.lexists(new / name) and not os.path.lexists(there):
                there.parent.mkdir(parents=True, exist_ok=True)
                os.rename(file, there)
    except OSError:
        return  # it stays, under its hidden name
    shutil.rmtree(old, ignore_errors=True)


def _complaint(error: Exception) -> str:
    """Give the disk's error message, "" for any other error."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # safetensors and tokenizers raise no OSError, but quote the system's message as Rust does.
    found = re.search(r"([^:]+) \(os error \d+\)", str(error))
    return found[1].strip() if found else ""
