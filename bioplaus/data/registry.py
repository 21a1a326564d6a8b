"""The available readers, and the choice of one for a place."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

from bioplaus.data import readers
from bioplaus.data.reader import AbstractReader, visible
from bioplaus.errors import InputError
from bioplaus.registry import added, defined_in, load_added, unknown

GROUP = "bioplaus.readers"
"""The entry-point group under which installed packages register readers."""
_MOST_FOLDERS = 3
"""How many nested folders are searched if each contains only one folder."""


def all_readers() -> tuple[list[AbstractReader], list[str]]:
    """Find the readers of `bioplaus.data.readers` and of installed packages.

    Returns:
        The readers, and for each entry point without a valid reader one line that says why.
    """
    found, broken = list(_own()), []
    for entry in added(GROUP):
        try:
            found.append(as_reader(load_added(entry), entry.value))
        except InputError as error:
            broken.append(str(error))
    return found, broken


def get_reader(name: str) -> AbstractReader:
    """Find a reader by its name or by that of a package's entry point.

    Raises:
        InputError: the name is unknown, or the package that adds it cannot be loaded.
    """
    own = {reader.name: reader for reader in _own()}
    if name in own:
        return own[name]
    entries = {entry.name: entry for entry in added(GROUP)}
    if name in entries:
        return as_reader(load_added(entries[name]), entries[name].value)
    known = {reader.name: reader for reader in all_readers()[0]}
    if name in known:
        return known[name]
    raise unknown("reader", name, dict.fromkeys([*known, *entries]))


def locate(place: Path) -> tuple[AbstractReader, Path]:
    """Find the reader of a file or a folder, there or in the reader's `homes`.

    Returns:
        The reader, and the place for it.

    Raises:
        InputError: no reader recognises it, or there is more than one data set.
    """
    known, broken = all_readers()
    start = place
    for _ in range(_MOST_FOLDERS):
        found = _recognised(place, known)
        if found:
            return found
        if not place.is_dir():
            break
        files, folders = visible(place)
        if files or len(folders) != 1:
            break
        place = place / folders[0]
    raise InputError("; ".join([_nothing(start, known), *broken]))


def _recognised(place: Path, known: list[AbstractReader]) -> tuple[AbstractReader, Path] | None:
    here = _best([reader for reader in known if reader.recognises(place)], place)
    if here is not None:
        return here, place
    found: dict[Path, list[AbstractReader]] = {}
    for reader in known if place.is_dir() else []:
        for home in reader.homes:
            folder = place / home
            if folder.is_dir() and reader.recognises(folder):
                found.setdefault(folder, []).append(reader)
    if len(found) > 1:
        places = ", ".join(str(folder) for folder in found)
        raise InputError(f"{place} holds {len(found)} data sets: name one of {places}")
    for folder, able in found.items():
        best = _best(able, folder)
        assert best is not None
        return best, folder
    return None


def _best(able: list[AbstractReader], place: Path) -> AbstractReader | None:
    highest = max((reader.rank for reader in able), default=0)
    best = [reader for reader in able if reader.rank == highest]
    if len(best) > 1:
        names = [reader.name for reader in best]
        raise InputError(
            f"{place} can be read as {' and '.join(names)}: choose one, e.g. "
            f"--set data.reader={names[0]}"
        )
    return best[0] if best else None


def _nothing(place: Path, known: list[AbstractReader]) -> str:
    near = next(filter(None, (reader.near_miss(place) for reader in known)), "")
    if near:
        return near
    if place.is_dir():
        files, folders = visible(place)
        inside = [*files, *(f"{name}/" for name in folders)]
        shown = ", ".join(inside[:4]) + (", ..." if len(inside) > 4 else "")
        held = f"holds {shown}" if inside else "is empty"
    else:
        held = "is of no known format"
        if place.name.lower().endswith((".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z")):
            held += " (unpack it first)"
    forms = "; ".join(reader.form for reader in known)
    return f"{place} {held}: readable are {forms}"


@cache
def _own() -> tuple[AbstractReader, ...]:
    kinds: list[Any] = list(defined_in(readers, AbstractReader))
    return tuple(kind() for kind in kinds)


def as_reader(made: object, subject: str) -> AbstractReader:
    """Make a reader from a reader or its class.

    Raises:
        InputError: it is neither, or lacks a reader's attributes.
    """
    if inspect.isclass(made) and issubclass(made, AbstractReader):
        try:
            kind: Any = made
            made = kind()
        except TypeError as error:
            raise InputError(f"reader {subject} cannot be made: {error}") from None
    if not isinstance(made, AbstractReader):
        raise InputError(f"reader {subject} is no AbstractReader: derive it from bioplaus.data's")
    for name in ("name", "form"):
        if not isinstance(getattr(made, name, None), str):
            raise InputError(f"reader {subject} has no {name}: give it one, a text")
    return made
