"""Estimators by name: the classes of this package, one per file, and of installed packages."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from bioplaus.calling import answered, unknown_argument
from bioplaus.errors import InputError
from bioplaus.estimators.base import AbstractEstimator
from bioplaus.registry import defined_in, find, find_added, unknown

GROUP = "bioplaus.estimators"
"""The entry-point group under which installed packages register estimators."""

EstimatorLike = str | AbstractEstimator | type[AbstractEstimator]
"""An estimator: its name, its class, or an object with settings."""


def _own() -> dict[str, type[AbstractEstimator]]:
    package = sys.modules[__name__.rpartition(".")[0]]
    found = defined_in(package, AbstractEstimator)
    first = len(found)
    found.sort(key=lambda kind: (vars(kind).get("rank", first), kind.name))
    return {kind.name: kind for kind in found}


_OWN = _own()
ESTIMATORS = {name: kind for name, kind in _OWN.items() if not kind.is_oracle}
"""The estimators of this package, by name."""
ORACLES = {name: kind for name, kind in _OWN.items() if kind.is_oracle}
"""The oracles of this package, which compute the true gradient, by name."""


@answered
def get_estimator(name: str) -> type[AbstractEstimator]:
    """Look up the class of an estimator or oracle by name.

    Raises:
        InputError: the name is unknown, or the package that adds it cannot be loaded.
    """
    found = find("estimator", name, ESTIMATORS | ORACLES, GROUP)
    return estimator_class(found, f"the entry point {name} of {GROUP}")


@answered
def get_oracle(name: str) -> type[AbstractEstimator]:
    """Look up an oracle's class by name.

    Raises:
        InputError: the name is unknown.
    """
    if name in ORACLES:
        return ORACLES[name]
    found = None if name in ESTIMATORS else find_added(GROUP, name)
    if found is None:
        raise unknown("oracle", name, ORACLES)
    return estimator_class(found, f"the entry point {name} of {GROUP}")


def estimator_class(found: Any, subject: str) -> type[AbstractEstimator]:
    """Check that an object is an estimator's class that can be instantiated.

    Raises:
        InputError: it is not an estimator's class, or it cannot be instantiated; one line.
    """
    if not (inspect.isclass(found) and issubclass(found, AbstractEstimator)):
        what = found.__name__ if inspect.isclass(found) else type(found).__name__
        raise InputError(
            f"{subject} is no estimator but {what}; derive a class from bioplaus.AbstractEstimator "
            "or from one of the estimators"
        )
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing or found.__name__.startswith("Abstract"):
        lacks = f" has no {', '.join(missing)}" if missing else " is abstract"
        raise InputError(f"{subject}: {found.__name__}{lacks}; write what is missing")
    own = vars(found)
    undeclared = [
        name
        for name, hint in inspect.get_annotations(found).items()
        if "ClassVar" not in str(hint) and name not in found.__dataclass_fields__
    ]
    if undeclared and "__dataclass_params__" not in own:
        raise InputError(
            f"{subject}: {found.__name__} has settings ({', '.join(undeclared)}) and is no "
            "dataclass; write @dataclass(frozen=True) above it"
        )
    return found


def estimator_with(choice: EstimatorLike, settings: Mapping[str, Any]) -> AbstractEstimator:
    """Make an estimator from a name, a class or an object with exactly these settings.

    Raises:
        InputError: see `make_estimator`, or the estimator has no such setting.
    """
    made = make_estimator(choice, **settings)
    known = [each.name for each in dataclasses.fields(made)]
    owner = f"estimator={made.name!r}"
    unread = [
        unknown_argument(name, value, owner, known, "setting")
        for name, value in settings.items()
        if name not in known
    ]
    if unread:
        raise InputError(*unread)
    return made


def require_settings(settings: Mapping[str, Any], among: Iterable[EstimatorLike]) -> None:
    """Reject settings that none of these estimators has, nor any other of this package.

    Raises:
        InputError: one line for each such setting.
    """
    kinds = [get_estimator(each) if isinstance(each, str) else each for each in among]
    fields = (getattr(each, "__dataclass_fields__", ()) for each in (*kinds, *_OWN.values()))
    known = dict.fromkeys(name for names in fields for name in names)
    unread = [
        unknown_argument(name, value, "any estimator", known, "setting")
        for name, value in settings.items()
        if name not in known
    ]
    if unread:
        raise InputError(*unread)


def make_estimator(choice: EstimatorLike, what: str = "estimator", **common: Any) -> Any:
    """Make an estimator from a name, a class or an object.

    Args:
        choice: the estimator; an object keeps its settings except for those given here.
        what: "estimator" or "oracle", for messages.
        common: settings; those that the estimator lacks are ignored.

    Raises:
        InputError: an unknown name, another kind of object, or a setting outside its range.
    """
    if isinstance(choice, AbstractEstimator):
        kept = {k: v for k, v in common.items() if k in choice.__dataclass_fields__}
        return dataclasses.replace(choice, **kept) if kept else choice
    if isinstance(choice, str):
        kind = get_oracle(choice) if what == "oracle" else get_estimator(choice)
    else:
        kind = estimator_class(choice, what)
    kept = {k: v for k, v in common.items() if k in kind.__dataclass_fields__}
    return kind(**kept)
