"""Checkpoints: all that a loop needs to go on, in a folder that is complete or does not count.

A state is any nesting of dicts, lists, tuples, tensors, numbers, texts, bools and None, as
`state_dict()` returns it. Tensors go into one safetensors file, everything else into JSON; loading
either cannot run code. The manifest, with the sha256 of both files, is written last.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bridge.disk import force, force_all, make_folders
from bridge.errors import InputError, StorageError
from bridge.state_files import (
    force_file,
    nested,
    plain,
    read_json,
    read_tensors,
    write_bytes,
    write_tensors,
)

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
KEPT = 2
"""Number of checkpoints kept: the newest, and one more in case the disk has damaged it."""

_NAME = re.compile(r"step-(\d{12})")


@dataclass(frozen=True)
class Checkpoint:
    """What was saved after a step.

    Args:
        path: its folder.
        step: steps done.
        facts: what the saver added, e.g. the run's id and the rows of its log.
        state: what the loop needs, see `save_checkpoint`.
    """

    path: Path
    step: int
    facts: Mapping[str, Any]
    state: Any = field(repr=False)


def save_checkpoint(folder: Path, step: int, state: Any, facts: Mapping[str, Any]) -> Path:
    """Save a state; after a kill at any moment the checkpoint is complete or does not count.

    The files are written into a new folder next to the others and forced to the disk, the manifest
    last. The folder is then renamed and read back. Only then are older checkpoints of the same run
    removed, and any of a later step, from which the run did not continue. Everything else in the
    folder stays.

    Args:
        folder: the folder of a run's checkpoints; created if needed.
        step: steps done, >= 0.
        state: nested dicts, lists, tuples, tensors, numbers, texts, bools and None; the keys of a
            dict are all texts or all integers.
        facts: JSON values; `run_id` names the run that the checkpoint belongs to.

    Returns:
        The checkpoint's folder.

    Raises:
        TypeError: the state holds something that cannot be saved.
        StorageError: the disk is full or fails; older checkpoints stay.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps({"step": step, "facts": dict(facts), "state": plain(state, "", tensors)})
    run_id = facts.get("run_id")

    def fill(temporary: Path) -> Mapping[str, str]:
        files = {}
        for name, write in (
            (TENSORS, lambda file: write_tensors(file, tensors)),
            (STATE, lambda file: write_bytes(file, text.encode())),
        ):
            with (temporary / name).open("wb") as file:
                files[name] = write(file)
                force_file(file)
        manifest = {"format": 1, "run_id": run_id, "sha256": files}
        with (temporary / MANIFEST).open("wb") as file:
            file.write(json.dumps(manifest).encode())
            force_file(file)
        return files

    final = _place(folder, step, run_id, fill)
    mine = own_checkpoints(folder, run_id)
    for old in [path for path in mine if path > final] + mine[mine.index(final) + KEPT :]:
        remove_checkpoint(old)
    return final


def place_checkpoint(
    folder: Path, step: int, run_id: str, write: Callable[[Sequence[str], Path], None]
) -> Path:
    """Put a checkpoint that was stored elsewhere back among those of its run.

    Args:
        folder: the folder of a run's checkpoints; created if needed.
        step: steps done, >= 0.
        run_id: the run that it belongs to.
        write: writes the files of the given names into a folder.

    Returns:
        The checkpoint's folder; only `load_checkpoint` checks whether it is complete.

    Raises:
        StorageError: the disk is full or fails.
    """

    def fill(temporary: Path) -> Mapping[str, str]:
        write((TENSORS, STATE, MANIFEST), temporary)
        force_all(temporary)
        return {}

    return _place(folder, step, run_id, fill)


def _place(
    folder: Path, step: int, run_id: str | None, fill: Callable[[Path], Mapping[str, str]]
) -> Path:
    """Make a checkpoint of the files that `fill` writes and forces; `fill` gives their sha256."""
    final = folder / f"step-{step:012d}"
    temporary = folder / f".{final.name}.{run_id}.{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        make_folders(folder)
        temporary.mkdir()
        files = fill(temporary)
        force(temporary)
        before = _make_way(final, run_id)
        temporary.rename(final)
        force(folder)
        _read_back(final, files)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # where no older one is
        raise StorageError(
            f"{folder}: the checkpoint of step {step} cannot be written: "
            f"{error.strerror or error}; the log and older checkpoints are kept"
        ) from None
    if before is not None:
        _remove_files(before)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a folder, valid or not, newest first."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    return sorted(found, key=lambda path: path.name, reverse=True)


def own_checkpoints(folder: Path, run_id: str | None) -> list[Path]:
    """List a run's checkpoints, newest first, with damaged ones whose run can still be read."""
    return [path for path in checkpoints(folder) if _is_of(path, run_id)]


def remove_checkpoints(folder: Path, run_id: str, spared: Path | None = None) -> None:
    """Remove a run's checkpoints and unfinished ones, and the folder if that leaves it empty.

    Files of others stay, and so does the checkpoint `spared`.
    """
    if not folder.is_dir():
        return
    for path in own_checkpoints(folder, run_id):
        if path != spared:
            remove_checkpoint(path)
    begun = re.compile(rf"\.step-\d{{12}}\.{re.escape(run_id)}\.\d+(\.old)?")
    for path in [each for each in folder.iterdir() if begun.fullmatch(each.name)]:
        _remove_files(path)
    with contextlib.suppress(OSError):
        folder.rmdir()


def last_checkpoint(folder: Path, run_id: str) -> tuple[Path, int] | None:
    """Find the checkpoint of a run's last step, and that step; None if there is none."""
    for path in own_checkpoints(folder, run_id)[:1]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            found = json.loads(read_json(path / STATE))
            if found["step"] == found["facts"]["end"] and {e.name for e in path.iterdir()} == {
                MANIFEST,
                STATE,
                TENSORS,
            }:
                return path, found["step"]
    return None


def whose(path: Path) -> str | None:
    """Read the id of the run that a checkpoint belongs to.

    Raises:
        InputError: it has no id, so it is no checkpoint, or badly damaged.
    """
    if path.is_symlink() or not path.is_dir():
        raise InputError(f"{path}: no checkpoint")
    for name, keys in ((MANIFEST, ("run_id",)), (STATE, ("facts", "run_id"))):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            found = json.loads(read_json(path / name))
            for key in keys:
                found = found[key]
            return found if found is None else str(found)
    raise InputError(f"{path}: does not say which run it is of")


def _is_of(path: Path, run_id: str | None) -> bool:
    try:
        return whose(path) == run_id
    except InputError:
        return False


def _make_way(final: Path, run_id: str | None) -> Path | None:
    """Free the name of a checkpoint; if this run's own one has it, give its temporary name."""
    if not os.path.lexists(final):
        return None
    if not _is_of(final, run_id):
        final.rename(final.with_name(f"other-{final.name}-{secrets.token_hex(3)}"))
        return None
    before = _hidden(final, run_id)
    final.rename(before)
    return before


def _hidden(path: Path, run_id: str | None) -> Path:
    return path.with_name(f".{path.name}.{run_id}.{os.getpid()}.old")


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, of whatever run, but no other file that someone has put into it."""
    with contextlib.suppress(OSError):
        if {each.name for each in path.iterdir()} <= {MANIFEST, STATE, TENSORS}:
            # with one rename, so that a half-removed one is never taken for a damaged one
            hidden = _hidden(path, whose(path))
            path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
        else:
            _remove_files(path)


def _remove_files(path: Path) -> None:
    """Remove the files of a checkpoint, and its folder if that leaves it empty."""
    with contextlib.suppress(OSError):
        for name in (MANIFEST, STATE, TENSORS):
            (path / name).unlink(missing_ok=True)
        path.rmdir()


def _read_back(path: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        with (path / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise OSError(errno.EIO, f"{name} cannot be read back as it was written")


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint and verify every byte of it; tensors are on the CPU.

    Raises:
        InputError: it is incomplete or damaged.
    """
    try:
        manifest = json.loads(read_json(path / MANIFEST))
        digests = manifest["sha256"]
        if manifest["format"] != 1 or set(digests) != {TENSORS, STATE}:
            raise ValueError("its manifest is of another kind")
        text = read_json(path / STATE)
        if hashlib.sha256(text).hexdigest() != digests[STATE]:
            raise ValueError(f"{STATE} is damaged")
        tensors = read_tensors(path / TENSORS, digests[TENSORS])
        found = json.loads(text)
        if manifest.get("run_id") not in (None, found["facts"].get("run_id")):
            raise ValueError("its manifest is of another run")
        if f"step-{found['step']:012d}" != path.name:
            raise ValueError(f"it is of step {found['step']}")
        return Checkpoint(path, found["step"], found["facts"], nested(found["state"], tensors))
    except OSError as error:
        raise InputError(f"{path}: no whole checkpoint: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: damaged checkpoint: {' '.join(str(error).split())}") from None


def restore(into: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into those of a loop, in place.

    Raises:
        InputError: their names, shapes or dtypes differ.
    """
    have = {name: (tuple(t.shape), t.dtype) for name, t in into.items()}
    given = {name: (tuple(t.shape), t.dtype) for name, t in saved.items()}
    if have != given:
        odd = sorted(n for n in have.keys() | given.keys() if have.get(n) != given.get(n))
        raise InputError(f"the checkpoint does not fit this run at {', '.join(odd[:5])}")
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(saved[name])


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Within the block, turn errors of loading a state into one that says it is not of this loop.

    Raises:
        InputError: part of the state is missing or of the wrong type.
    """
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(
            f"the checkpoint does not fit this run: {reason}; remove it, to go on from an older one"
        ) from None


def random_states(**generators: torch.Generator) -> dict[str, Tensor]:
    """Collect the states of a loop's own generators, by name, and of torch's global ones."""
    states = {name: each.get_state() for name, each in generators.items()}
    states["torch"] = torch.get_rng_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for i, state in enumerate(torch.cuda.get_rng_state_all()):
            states[f"cuda:{i}"] = state
    return states


def set_random_states(states: Mapping[str, Tensor], **generators: torch.Generator) -> None:
    """Set generators to the states that `random_states` gave.

    Raises:
        InputError: the state of one of them is missing.
    """
    missing = [name for name in generators if name not in states]
    if missing:
        raise InputError(f"the checkpoint has no random state of {', '.join(missing)}")
    for name, each in generators.items():
        each.set_state(states[name])
    torch.set_rng_state(states["torch"])
    for name, state in states.items():
        if name.startswith("cuda:"):
            torch.cuda.set_rng_state(state, int(name.removeprefix("cuda:")))
