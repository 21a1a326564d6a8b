"""A name or an object wherever something is chosen: one function that gives the object."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, overload

import torch

from bioplaus import activations, costs
from bioplaus.activations import Activation, get_activation
from bioplaus.costs import AbstractCost, get_cost
from bioplaus.data import Dataset, load_dataset
from bioplaus.data import registry as readers
from bioplaus.errors import InputError
from bioplaus.estimators import AbstractEstimator, make_estimator
from bioplaus.estimators import registry as estimators
from bioplaus.fields import VectorField
from bioplaus.fields import registry as fields
from bioplaus.registry import find_added, names_of
from bioplaus.solvers import SOLVERS, AbstractSolver, get_solver
from bridge.optim import Optimizer
from bridge.usercode import Provenance, load_object, names_code, provenance_of, running

What = Literal["estimator", "oracle", "cost", "activation", "solver", "optimizer", "dataset"]
"""What can be chosen by name or as an object."""


@overload
def resolve(
    what: Literal["estimator", "oracle"], choice: object, **s: object
) -> AbstractEstimator: ...
@overload
def resolve(what: Literal["cost"], choice: object, **s: object) -> AbstractCost: ...
@overload
def resolve(what: Literal["activation"], choice: object, **s: object) -> Activation: ...
@overload
def resolve(what: Literal["solver"], choice: object, **s: object) -> AbstractSolver: ...
@overload
def resolve(what: Literal["optimizer"], choice: object, **s: object) -> Optimizer: ...
@overload
def resolve(what: Literal["dataset"], choice: object, **s: object) -> Dataset: ...
def resolve(what: What, choice: object, **settings: object) -> Any:
    """Give the object that is meant by a name, a class, an object or `module:name`.

    An object is handed through. Of the settings, what is made takes those that it has; an
    estimator that is an object already takes its phases and gate from them and keeps the rest.

    Args:
        what: which choice it is.
        choice: an estimator or oracle: its name, class or object; a cost or an activation: its
            name, object, or a function; a solver: its name, class or object; an optimizer: the
            name of a method, an `Optimizer`, or a function of parameters and settings that gives
            one; a data set: a name, a file, a folder, a `Dataset`, arrays (x_train, y_train) or
            (x_train, y_train, x_test, y_test), or a function that gives one of these.
        settings: of what is made: `settling`, `gate`, `beta`, ... of an estimator; `dt` of a
            solver; `params`, `learning_rate`, ... of an optimizer; those of
            `bioplaus.data.load_dataset`.

    Returns:
        The object.

    Raises:
        InputError: an unknown name, the wrong kind of object, or a value outside its range.

    Examples:
        >>> resolve("cost", "squared-error")
        SquaredError()
        >>> resolve("estimator", "asym-ep", beta=0.1).beta
        0.1
    """
    if what not in _MAKERS:
        raise InputError(f"what={what!r} is unknown; use one of {', '.join(_MAKERS)}")
    if isinstance(choice, str) and names_code(choice):
        choice = found_code(what, choice)
    return _MAKERS[what](choice, settings)


def found_code(
    what: str,
    name: str,
    known: Callable[[str], Any] = lambda name: name,
    also: type | tuple[type, ...] | None = None,
) -> Any:
    """What `module:name` names; of other names, what is known by them.

    Args:
        what: which choice it is.
        name: what was given.
        known: looks a name up.
        also: kinds of objects that need not be callable; those of `what` if None.

    Raises:
        InputError: there is nothing by that name.
    """
    if not names_code(name):
        return known(name)
    return load_object(name, what, KINDS[what] if also is None else also)[0]


def origins_of(named: Iterable[tuple[str, str]]) -> tuple[Provenance, ...]:
    """Where the code comes from that is none of this program's own.

    Args:
        named: what was chosen, and by which name.
    """
    found = []
    for what, name in named:
        if names_code(name):
            found.append(load_object(name, what, KINDS.get(what, ()))[1])
        elif name in names_of((), group := _GROUPS.get(what, "")):
            found.append(provenance_of(find_added(group, name), what, name))
    return tuple(found)


_GROUPS = {
    "field": fields.GROUP,
    "estimator": estimators.GROUP,
    "cost": costs.GROUP,
    "activation": activations.GROUP,
    "reader": readers.GROUP,
}


def _estimator(choice: Any, settings: Mapping[str, Any]) -> AbstractEstimator:
    if isinstance(choice, AbstractEstimator):
        settings = {k: v for k, v in settings.items() if k in ("settling", "gate")}
    return make_estimator(choice, **settings)


def _oracle(choice: Any, settings: Mapping[str, Any]) -> AbstractEstimator:
    return make_estimator(choice, "oracle", **settings)


def _solver(choice: Any, settings: Mapping[str, Any]) -> AbstractSolver:
    if isinstance(choice, AbstractSolver):
        return choice
    kind = SOLVERS.get(choice) if isinstance(choice, str) else choice
    known = getattr(kind, "__dataclass_fields__", {})
    return get_solver(choice, **{k: v for k, v in settings.items() if k in known})


def _optimizer(choice: object, settings: Mapping[str, Any]) -> Optimizer:
    if isinstance(choice, Optimizer):
        return choice
    if isinstance(choice, str):
        return Optimizer(method=choice, **settings)
    if callable(choice):
        try:
            inspect.signature(choice).bind(**settings)
        except TypeError as error:
            name = getattr(choice, "__name__", type(choice).__name__)
            raise InputError(
                f"optimizer={name}: {error}; it is called with {', '.join(settings)}: let it take "
                "these, or **settings"
            ) from None
        except ValueError:  # code in C says nothing of its arguments
            pass
    made = choice(**settings) if callable(choice) else choice
    if not isinstance(made, Optimizer):
        raise InputError(
            f"optimizer is no optimizer but {type(made).__name__}; give sgd, momentum or adam, or "
            "a bridge.optim.Optimizer"
        )
    return made


def _dataset(choice: Any, settings: Mapping[str, Any]) -> Dataset:
    if isinstance(choice, Dataset):
        dtype: torch.dtype | None = settings.get("dtype")
        return choice if dtype is None else choice.to(dtype=dtype)
    if isinstance(choice, list | tuple):
        parts = choice
        choice = lambda: parts  # noqa: E731
    elif not (callable(choice) or isinstance(choice, str | Path)):
        raise InputError(
            f"dataset is a {type(choice).__name__}; give a name, a path, a Dataset, (x_train, "
            "y_train), (x_train, y_train, x_test, y_test) or a function that gives one of these"
        )
    source = str(choice) if isinstance(choice, Path) else choice
    with running(f"dataset={getattr(source, '__name__', source)!r}"):
        return load_dataset(source, needs_test=False, **settings)


KINDS: dict[str, Any] = {
    "estimator": AbstractEstimator,
    "oracle": AbstractEstimator,
    "cost": AbstractCost,
    "activation": Activation,
    "solver": AbstractSolver,
    "optimizer": Optimizer,
    "dataset": Dataset,
    "field": VectorField,
}
"""The objects that users' code may hold ready, beside classes and functions."""

_MAKERS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "estimator": _estimator,
    "oracle": _oracle,
    "cost": lambda choice, _: get_cost(choice),
    "activation": lambda choice, _: get_activation(choice),
    "solver": _solver,
    "optimizer": _optimizer,
    "dataset": _dataset,
}
