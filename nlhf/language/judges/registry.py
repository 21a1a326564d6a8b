"""The sources of judges by prefix, found in the files of this package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys

from nlhf.language.judges.base import AbstractSource, fields_of


def _found() -> dict[str, type[AbstractSource]]:
    package = sys.modules[__name__.rpartition(".")[0]]
    files = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    found: dict[str, type[AbstractSource]] = {}
    for name in files:
        if f"{package.__name__}.{name}" == __name__:
            continue
        module = importlib.import_module(f"{package.__name__}.{name}")
        for kind in vars(module).values():
            own = inspect.isclass(kind) and kind.__module__ == module.__name__
            if own and issubclass(kind, AbstractSource) and "prefix" in vars(kind):
                found[kind.prefix] = kind
    return found


SOURCES = _found()
"""The sources by prefix."""


def source_of(spec: str) -> type[AbstractSource] | None:
    """The source of a judge's name; None if its prefix is unknown."""
    prefix, colon, rest = spec.partition(":")
    found = SOURCES.get(prefix)
    return found if found is not None and colon and found.claims(rest) else None


def operational() -> tuple[str, ...]:
    """The settings of all sources that do not affect answers, such as "judge.timeout"."""
    return tuple(
        f"{prefix}.{name}"
        for prefix, source in SOURCES.items()
        for name, spared in fields_of(source.Settings).items()
        if spared
    )
