"""Look up names among a package's own classes and the entry points of installed packages."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any, TypeVar

from bioplaus.errors import InputError

T = TypeVar("T")


def defined_in(package: ModuleType, kind: type[T]) -> list[type[T]]:
    """Find the subclasses of `kind` that the files of a package define, in file order.

    Classes called `Abstract...` are left out.
    """
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return [
        found
        for module in modules
        for found in vars(module).values()
        if inspect.isclass(found)
        and issubclass(found, kind)
        and found.__module__ == module.__name__
        and not found.__name__.startswith("Abstract")
    ]


def added(group: str) -> tuple[metadata.EntryPoint, ...]:
    """The entry points of installed packages in a group, without importing them."""
    return _added(group, tuple(sys.path))


@cache
def _added(group: str, path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    del path  # the path is only part of the cache key
    found = {entry.name: entry for entry in metadata.entry_points(group=group)}
    return tuple(found[name] for name in sorted(found))


def load_added(entry: metadata.EntryPoint) -> Any:
    """Import the object that an entry point names.

    Raises:
        InputError: the import fails; the line names the entry point and the cause.
    """
    try:
        return entry.load()
    except Exception as error:  # importing a package can raise anything
        raise InputError(
            f"the entry point {entry.name} of {entry.group} ({entry.value}) cannot be loaded: "
            f"{type(error).__name__}: {' '.join(str(error).split())}; mend or remove the package"
        ) from None


def find_added(group: str, name: str) -> Any | None:
    """Import the object that a package adds to a group under a name; None if there is none.

    Raises:
        InputError: see `load_added`.
    """
    entry = next((each for each in added(group) if each.name == name), None)
    return None if entry is None else load_added(entry)


def find(what: str, name: str, own: Mapping[str, T], group: str) -> T | Any:
    """Look up a name among this package's own, then among those that other packages add.

    Args:
        what: the kind of choice, for messages.
        name: the name to find.
        own: this package's objects by name.
        group: entry-point group.

    Raises:
        InputError: the name is unknown, or the package that adds it cannot be loaded.
    """
    if name in own:
        return own[name]
    found = find_added(group, name)
    if found is None:
        raise unknown(what, name, names_of(own, group))
    return found


def names_of(own: Iterable[str], group: str = "") -> tuple[str, ...]:
    """All known names: this package's own, then those that other packages add."""
    mine = tuple(own)
    more = added(group) if group else ()
    return mine + tuple(each.name for each in more if each.name not in mine)


def unknown(what: str, name: object, known: Iterable[str]) -> InputError:
    """Make the error for an unknown name."""
    names = list(known)
    near = get_close_matches(str(name), names, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return InputError(
        f"{what}={name!r} is unknown; use one of {', '.join(names)}, or module:name{hint}"
    )
