"""One-line errors for calls from Python: they name the wrong argument and the fix."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
import types
from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from bridge.errors import InputError
from bridge.spelling import nearest_key

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN: dict[Any, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (numbers.Integral, "a whole number, e.g. 3"),
    float: (numbers.Real, "a number, e.g. 0.5"),
    str: (str, "a text"),
}
"""For each expected type: the types that are accepted, and its name in a message."""
_LISTS = (Sequence, Iterable, list, tuple)


def answered(function: Callable[P, R]) -> Callable[P, R]:
    """Make a public function say in one line which argument is wrong.

    A call that succeeds costs nothing. If a call fails, its arguments are checked: unknown or
    missing arguments, and arguments of the wrong type, raise an InputError in place of the error
    from inside the function.

    Examples:
        >>> @answered
        ... def run(steps: int = 10):
        ...     return 2**steps
        >>> run(step=3)
        Traceback (most recent call last):
        bridge.errors.InputError: step=3 is no argument of run; did you mean steps? legal: steps
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return _answer(function, lambda: _described(function), args, kwargs)

    return call


def _answer(
    call: Callable[..., R], callee: Callable[[], _Callee], args: Any, kwargs: Mapping[str, Any]
) -> R:
    """Call; if that fails, check the arguments."""
    try:
        return call(*args, **kwargs)
    except InputError:
        raise
    except (TypeError, AttributeError, ValueError):
        if mistakes := _mistakes(callee(), args, kwargs, strict=True):
            raise InputError(*mistakes) from None
        raise


class Answered(ABCMeta):
    """A metaclass that does the same for the constructor, see `answered`.

    In dataclasses, numbers, strings and booleans are checked against their types at once. Otherwise
    a setting of the wrong type would fail only where it is used, far from the line that set it.
    """

    if not TYPE_CHECKING:  # constructors keep their own types

        @property
        def __signature__(cls) -> inspect.Signature:
            """The constructor's signature, for `inspect.signature` and `help`."""
            whole = inspect.signature(cls.__init__)
            return whole.replace(parameters=list(whole.parameters.values())[1:])

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            """Construct an object."""
            make, callee = super().__call__, _constructor(cls)
            if dataclasses.is_dataclass(cls) and (mistakes := _mistakes(callee, args, kwargs)):
                raise InputError(*mistakes)
            return _answer(make, lambda: callee, args, kwargs)


def unknown_argument(
    name: str, value: Any, owner: str, known: Iterable[str], what: str = "argument"
) -> str:
    """Say that the argument does not exist, list the legal ones and guess the one meant."""
    known = list(known)
    near = nearest_key(name, known)
    hint = f"did you mean {near}? " if near else ""
    assigned = f"={value!r}" if isinstance(value, str | int | float | None) else ""
    return (
        f"{name}{assigned[:60]} is no {what} of {owner}; {hint}legal: {', '.join(known) or 'none'}"
    )


@dataclasses.dataclass(frozen=True)
class _Callee:
    """The parameters of a function or a constructor.

    Attributes:
        name: the name by which the user calls it.
        signature: without `self`.
        hints: the types of its arguments; empty if only a type checker can resolve them.
    """

    name: str
    signature: inspect.Signature
    hints: Mapping[str, Any]

    @property
    def legal(self) -> list[str]:
        """The names of its arguments."""
        every = self.signature.parameters.values()
        return [p.name for p in every if p.kind != p.VAR_KEYWORD and p.name not in ("self", "cls")]


@functools.cache
def _described(function: Callable[..., Any]) -> _Callee:
    return _Callee(function.__name__, inspect.signature(function), _hints(function))


@functools.cache
def _constructor(cls: Any) -> _Callee:
    name, signature = cls.__name__, inspect.signature(cls)
    return _Callee(name, signature, _hints(cls if dataclasses.is_dataclass(cls) else cls.__init__))


def _hints(of: Any) -> dict[str, Any]:
    try:
        return get_type_hints(of if inspect.isclass(of) else inspect.unwrap(of))
    except (NameError, TypeError):  # names that only a type checker sees
        return {}


def _mistakes(
    callee: _Callee, args: Sequence[Any], kwargs: Mapping[str, Any], strict: bool = False
) -> list[str]:
    """List the mistakes in the arguments of a call, one line each.

    Args:
        callee: the function or constructor.
        args, kwargs: the arguments of the call.
        strict: also check arguments that should be lists or objects of a class.
    """
    legal = callee.legal
    if not any(p.kind == p.VAR_KEYWORD for p in callee.signature.parameters.values()):
        strange = [name for name in kwargs if name not in legal]
        if strange:
            return [unknown_argument(name, kwargs[name], callee.name, legal) for name in strange]
    try:
        given = callee.signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        return [f"{callee.name}: {error}; it takes {', '.join(legal)}"]
    found = {k: _wrong(callee.hints[k], v, strict) for k, v in given.items() if k in callee.hints}
    return [_wrong_value(name, given[name], text) for name, text in found.items() if text]


def _wrong_value(name: str, value: Any, text: str) -> str:
    if isinstance(value, str | int | float | None):
        return f"{name}={value!r} must be {text}"
    return f"{name} is {type(value).__name__}; it must be {text}"


def _wrong(hint: Any, value: Any, strict: bool) -> str | None:
    """Say what a value should be, to end a message; None if it fits or this is not known."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _wrong(parts[0], value, strict)
    if origin in (Union, types.UnionType):
        each = [_wrong(part, value, strict) for part in parts]
        return None if None in each else " or ".join(dict.fromkeys(filter(None, each)))
    if origin is Literal:
        return None if value in parts else f"one of {', '.join(map(str, parts))}"
    if hint is types.NoneType:
        return None if value is None else "None"
    if hint in _PLAIN:
        kind, text = _PLAIN[hint]
        fits = isinstance(value, kind) and (hint is bool or not isinstance(value, bool))
        fits = fits and not (isinstance(value, float) and math.isnan(value))
        return None if fits else text
    return _wrong_object(hint, origin, parts, value) if strict else None


def _wrong_object(hint: Any, origin: Any, parts: Sequence[Any], value: Any) -> str | None:
    """The same for a value that should be a list, a mapping or an object of a class."""
    if origin in _LISTS:
        if isinstance(value, str) or not isinstance(value, Iterable):
            return "a list"
        entries = value if isinstance(value, Sequence) else ()
        found = (_wrong(parts[0], each, strict=True) for each in entries)
        return next((f"a list, each entry {text}" for text in found if text), None)
    if origin in (Mapping, dict) and isinstance(value, Mapping):
        found = {key: _wrong(parts[1], each, strict=True) for key, each in value.items()}
        return next((f"{text} at {key!r}" for key, text in found.items() if text), None)
    kind = hint if origin is None else origin
    if not inspect.isclass(kind) or kind in (Any, object) or getattr(kind, "_is_protocol", False):
        return None
    return None if isinstance(value, kind) else f"a {kind.__name__}"
