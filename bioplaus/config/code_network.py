"""The config that a field's own code implies: a class, a function, or a field as it stands."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_type_hints

import torch
from pydantic import create_model

from bioplaus.config.network import LeakyConfig, NetworkConfig, Task
from bioplaus.config.resolving import found_code, resolve
from bioplaus.errors import InputError
from bioplaus.fields import VectorField
from bioplaus.fields.registry import get_field
from bridge.config import described_by, is_plain
from bridge.failures import describe
from bridge.usercode import names_code, running


class CodeConfig(NetworkConfig):
    """A field that its own code describes: the parameters of a class or a function are its keys."""

    def draw(self, task: Task) -> VectorField:
        subject = f"field={self.field!r}"
        found = field_code(self.field)
        with running(subject):
            field = found if isinstance(found, VectorField) else self._made(found, task, subject)
        if not isinstance(field, VectorField):
            hint = "; FunctionField.from_module makes one of a module"
            raise InputError(
                f"{subject} gave {_called(field)}; it must give a VectorField"
                f"{hint if isinstance(field, torch.nn.Module) else ''}"
            )
        # parameters of its own, which a run may change: an object of the user's stays as it is
        field = field.with_parameters(
            {
                name: p.detach().to(device=task.device, dtype=task.dtype, copy=True)
                for name, p in field.parameters.items()
            }
        )
        require_fitting(field, task, subject)
        return field

    def _made(self, found: Callable[..., Any], task: Task, subject: str) -> Any:
        given = task.given(getattr(self, "hidden", ()))
        settings = {name: getattr(self, name) for name in _settings(found, subject)}
        if names_code(str(settings.get("activation", ""))):
            settings["activation"] = resolve("activation", settings["activation"])
        known = {name: make() for name, make in given.items() if name in _parameters(found)}
        try:
            return found(**{**known, **_only(settings, found)})
        except (TypeError, InputError) as error:
            own = isinstance(error, InputError) and not names_code(self.field)
            raise InputError(f"{subject}: {error if own else describe(error)}") from None


def require_fitting(field: VectorField, task: Task, subject: str) -> None:
    """Try a field on one input, before anything is begun.

    Raises:
        InputError: it does not fit the task, or its formula fails or gives something else.
    """
    if field.n_output != task.n_output:
        raise InputError(
            f"{subject}: its n_output={field.n_output} is not the {task.n_output} outputs of "
            f"{task.name}; build it with {task.n_output} (a parameter n_output is given them)"
        )
    if field.input is not None and math.prod(field.input) != task.n_input:
        raise InputError(
            f"{subject}: takes inputs of shape {field.input}, and those of {task.name} are "
            f"{task.shape}; build it for {task.n_input} numbers (a parameter n_input is given them)"
        )
    shapes = [field.input] if field.input else [task.shape, (1, *task.shape), (task.n_input,)]
    failed: list[InputError] = []
    for shape in dict.fromkeys(shapes):
        try:
            return _try(field, torch.full((2, *shape), 0.5, dtype=task.dtype, device=task.device))
        except InputError as error:
            failed.append(error)
    raise InputError(f"{subject}: {failed[-1]}") from None


@torch.no_grad()
def _try(field: VectorField, x: torch.Tensor) -> None:
    """Ask a field for ds/dt where the free phase begins.

    Raises:
        InputError: it fails, or gives something else.
    """
    try:
        drive = field.drive(x)
        mu = field.driven(drive, start := field.initial_state(drive))
    except Exception as error:
        raise InputError(
            f"{describe(error)} (for x of shape {tuple(x.shape)}, {x.dtype})"
        ) from None
    if not isinstance(mu, torch.Tensor) or mu.shape != start.shape:
        what = f"shape {tuple(mu.shape)}" if isinstance(mu, torch.Tensor) else _called(mu)
        raise InputError(
            f"its field gave {what} for states of shape {tuple(start.shape)}; it must give ds/dt "
            "of that shape"
        )
    if mu.dtype != start.dtype:
        raise InputError(
            f"its field gave {mu.dtype} for states of {start.dtype}; let constants follow the "
            "dtype of x and s"
        )


def field_code(name: str) -> Any:
    """What `module:name` or a name of a field means: a class, a function or a field.

    Raises:
        InputError: nothing, or something else.
    """
    found = found_code("field", name, get_field, VectorField)
    if not (isinstance(found, VectorField) or callable(found)):
        raise InputError(f"field={name!r} is {_called(found)}; give a VectorField or its class")
    missing = sorted(getattr(found, "__abstractmethods__", ())) if inspect.isclass(found) else ()
    if missing:
        raise InputError(f"field={name!r} has no {', '.join(missing)}; write what is missing")
    if inspect.isclass(found) and not issubclass(found, VectorField):
        hint = "; FunctionField.from_module makes one of a module"
        raise InputError(
            f"field={name!r} is the class {found.__name__}, no VectorField; derive it from "
            f"bioplaus.VectorField, or name a function that gives a FunctionField"
            f"{hint if issubclass(found, torch.nn.Module) else ''}"
        )
    return found


_BUILT: dict[Any, tuple[Any, type[NetworkConfig]]] = {}
"""Configs by what they are of, which is kept: equal configs are of one class."""


def field_config(name: object) -> type[NetworkConfig]:
    """Make the config of a field that is not this package's own.

    Raises:
        InputError: the name is unknown, or what it names is no field.
    """
    if not isinstance(name, str):
        raise InputError(f"field={name!r} must be a text: a name, module:name or file.py:name")
    found = field_code(name)
    key = (name, id(found) if isinstance(found, VectorField) else found)
    if key not in _BUILT:
        settings = {} if isinstance(found, VectorField) else _settings(found, f"field={name!r}")
        doc = inspect.getdoc(found)
        made = create_model(
            "CodeSettings",
            __base__=CodeConfig,
            __doc__=doc,
            field=(Literal[name], name),  # type: ignore[valid-type]
            **settings,
        )
        _BUILT[key] = (found, described_by(made, found, LeakyConfig))
    return _BUILT[key][1]


def _parameters(found: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    kept = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    listed = inspect.signature(found).parameters
    return {name: each for name, each in listed.items() if each.kind in kept}


def _settings(found: Callable[..., Any], subject: str) -> dict[str, Any]:
    """Type and default of the keys that the parameters of a class or a function are.

    Raises:
        InputError: a parameter is needed that neither a run nor a key can give.
    """
    parameters = _parameters(found)
    try:
        hints = get_type_hints(found.__init__ if inspect.isclass(found) else found)
    except Exception:  # a name that the user's file does not have at run time
        hints = {}
    given, keys = Task((1,), 1).given(()), LeakyConfig.model_fields
    taken = set(dir(CodeConfig))
    made: dict[str, Any] = {}
    for name, each in parameters.items():
        default = ... if each.default is inspect.Parameter.empty else each.default
        hint = hints.get(name, type(default) if default not in (..., None) else None)
        if name in given:
            continue
        if name in keys and name != "field":
            own = keys[name]
            value = own.default if default is ... or not _kept(default) else default
            # the bounds of a number are those of the leaky integrators
            made[name] = (own.rebuild_annotation(), value)
        elif name not in taken and hint is not None and _plain(hint) and _kept(default):
            made[name] = (hint, default)
        elif default is ...:
            can = ", ".join([*given, *keys])
            raise InputError(
                f"{subject}: needs {name}, which a run does not know; give it a default, or a type "
                f"such as int to make it a key; known are {can}"
            )
    if "sizes" in parameters:
        made.setdefault("hidden", (keys["hidden"].rebuild_annotation(), keys["hidden"].default))
    return made


def _plain(hint: object) -> bool:
    args = getattr(hint, "__args__", ())
    listed = getattr(hint, "__origin__", None) in (tuple, list)
    return is_plain(hint) or (listed and all(a is ... or is_plain(a) for a in args))


def _kept(default: object) -> bool:
    """Whether a log can keep a default."""
    many = isinstance(default, list | tuple) and all(_kept(each) for each in default)
    return default is ... or many or isinstance(default, bool | int | float | str | None)


def _only(settings: Mapping[str, Any], found: Callable[..., Any]) -> dict[str, Any]:
    """Without what is a key for the sake of another parameter, as `hidden` is for `sizes`."""
    parameters = _parameters(found)
    return {name: value for name, value in settings.items() if name in parameters}


def _called(found: object) -> str:
    return f"the class {found.__name__}" if inspect.isclass(found) else type(found).__name__
