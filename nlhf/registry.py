"""Lookup by name of the classes that the files of a package define."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


def named_in(package: ModuleType, kind: type[T], first: Sequence[str] = ()) -> dict[str, type[T]]:
    """Find the classes of a kind that the files of a package define, by their `name`.

    Args:
        package: the package to search, file by file; to add a class, add a file.
        kind: the base class; classes without a name of their own are left out.
        first: names that come first, in this order; the others follow alphabetically.
    """
    found: dict[str, type[T]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for each in vars(module).values():
            own = inspect.isclass(each) and each.__module__ == module.__name__
            if own and issubclass(each, kind) and "name" in vars(each):
                known: Any = each
                found[known.name] = each
    places = {name: place for place, name in enumerate(first)}
    return {n: found[n] for n in sorted(found, key=lambda n: (places.get(n, len(places)), n))}
