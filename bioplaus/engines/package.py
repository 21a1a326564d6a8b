"""The package Brian2: imported on demand, with its units, and one device at a time."""

from __future__ import annotations

import gc
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bioplaus.errors import InputError

METHODS = ("euler", "exponential_euler", "rk4")
TARGETS = ("numpy", "cython", "cpp_standalone")


def load_brian2() -> Any:
    """The package brian2.

    Raises:
        InputError: it is not installed, or numpy is incompatible with it (2.9 fails with numpy
            2.4 with an AttributeError); the message names the extra.
    """
    try:
        import brian2
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the engine brian2 cannot be used ({error}); pip install 'bioplaus[brian]'"
        ) from None
    return brian2


def duration(name: str, value: Any) -> Any:
    """A positive time with its unit, as a Brian2 quantity.

    Args:
        name: name of the value, for the message.
        value: a number with a unit, "10 ms", or a Brian2 quantity.

    Raises:
        InputError: the unit is missing, unknown or not a unit of time.
    """
    return _quantity(name, value, "second", "10 ms", "a time")


def frequency(name: str, value: Any) -> Any:
    """A positive rate with its unit, "100 Hz", as a Brian2 quantity.

    Raises:
        InputError: as for `duration`.
    """
    return _quantity(name, value, "hertz", "100 Hz", "a rate")


def _quantity(name: str, value: Any, unit: str, example: str, kind: str) -> Any:
    brian2 = load_brian2()
    given = value
    if isinstance(value, str):
        parts = re.fullmatch(r"\s*([-+.\deE]+)\s*([A-Za-z]+)\s*", value)
        found = getattr(brian2, parts[2], None) if parts else None
        try:
            number = float(parts[1]) if parts else None
        except ValueError:
            number = None
        if found is None or number is None or not isinstance(found, brian2.Unit):
            raise InputError(f"{name}={given!r} must be a number and a unit, such as {example!r}")
        value = number * found
    if not brian2.have_same_dimensions(value, getattr(brian2, unit)):
        raise InputError(f"{name}={given!r} is not {kind}; give one with its unit: {example!r}")
    if not 0 < float(value) < float("inf"):
        raise InputError(f"{name}={given!r} must be positive")
    return value


def check_choice(name: str, value: str, legal: tuple[str, ...]) -> None:
    """Reject an unknown method or target.

    Raises:
        InputError: the message lists the legal ones.
    """
    if value not in legal:
        raise InputError(f"{name}={value!r} is unknown; use one of {', '.join(legal)}")


@contextmanager
def spared_collection() -> Iterator[None]:
    """Hide existing objects from the garbage collector, which Brian2 calls at each `run`.

    If torch is loaded, that call takes longer than a short simulation.
    """
    if gc.get_freeze_count():  # frozen by other code, which must undo it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def generated(target: str) -> Iterator[None]:
    """Build and run Brian2 objects for one target, and restore the previous target.

    Args:
        target: `numpy` or `cython` (code generated while Python runs), or `cpp_standalone` (a C++
            program, compiled in a temporary folder; results must be read inside the block).

    Raises:
        InputError: the target is unknown.
    """
    check_choice("target", target, TARGETS)
    brian2 = load_brian2()
    if target != "cpp_standalone":
        before = brian2.prefs.codegen.target
        brian2.prefs.codegen.target = target
        try:
            yield
        finally:
            brian2.prefs.codegen.target = before
        return
    from brian2.devices.device import reset_device

    with tempfile.TemporaryDirectory() as folder:
        brian2.set_device("cpp_standalone", directory=folder)
        try:
            yield
        finally:
            brian2.device.reinit()
            reset_device()
