"""Fields by name: classes and functions of this package and of installed packages."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

from bioplaus.registry import find

GROUP = "bioplaus.fields"
"""The entry-point group of installed packages for fields: classes, functions or objects."""


def _own() -> dict[str, Callable[..., Any]]:
    package = sys.modules[__name__.rpartition(".")[0]]
    found: dict[str, Callable[..., Any]] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        name = f"{package.__name__}.{info.name}"
        if name == __name__:
            continue
        for each in vars(importlib.import_module(name)).values():
            if callable(each) and getattr(each, "__module__", "") == name:
                named = getattr(each, "__dict__", {}).get("name")
                if isinstance(named, str):
                    found[named] = each
    return found


FIELDS = _own()
"""Classes and functions of this package that make fields, by their `name`."""


def get_field(name: str) -> Any:
    """Look up a class or function that makes a field, or a field that a package adds.

    Raises:
        InputError: the name is unknown, or the package that adds it cannot be loaded.
    """
    return find("field", name, FIELDS, GROUP)
