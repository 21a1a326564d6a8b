"""Find whose code raised an exception, and describe it in one line.

A run calls code that its user supplied: a judge, a data set, a field. Users can fix errors there.
For that they need the place, the call and the way to go on, not the stack of a program that worked
as it should.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

_ROOT = Path(__file__).resolve().parents[1]
_OURS = ("bioplaus", "nlhf", "bridge", "bioplaus_votes", "bioplaus_cli")
_PATHS = sysconfig.get_paths()
_STANDARD = tuple(Path(_PATHS[name]).resolve() for name in ("stdlib", "platstdlib"))
_INSTALLED = tuple(Path(_PATHS[name]).resolve() for name in ("purelib", "platlib"))
_LIBRARIES = {
    "torch", "torchgen", "functorch", "triton", "numpy", "scipy", "h5py", "safetensors", "pydantic",
    "pydantic_core", "click", "rich", "matplotlib", "plotly", "brian2", "nir", "pyarrow",
    "transformers", "tokenizers", "peft", "datasets", "accelerate", "huggingface_hub", "gguf",
    "submitit", "optuna", "sympy", "networkx", "tensorboard", "tqdm",
}  # fmt: skip
"""Top-level packages that this program itself depends on."""
_MAX_TEXT = 300
_MAX_TRACE = 16_000


@dataclass(frozen=True)
class Place:
    """A line of code: its file, number and function."""

    file: Path
    line: int
    function: str

    def __str__(self) -> str:
        here = Path.cwd()
        shown = self.file.relative_to(here) if self.file.is_relative_to(here) else self.file
        return f"{shown}:{self.line} in {self.function}"


def user_place(error: BaseException) -> Place | None:
    """Find the innermost line of the user's code; None if no such code was running.

    User code is code that this program called and that belongs neither to it, nor to Python, nor to
    a library that this program itself depends on.
    """
    last_own, found, root = False, None, None
    for frame, line in _frames(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if _is_ours(file):
            # the console calls commands, whoever wrote them
            last_own = last_own or file.parent.name != "console"
            continue
        home = _home(file) if last_own else None
        if home is not None and home == (root or home):
            found, root = Place(file.resolve(), line, frame.f_code.co_name), home
    return found


def place_of(error: BaseException) -> Place | None:
    """Find the innermost line of the user's code, or else of this program's."""
    found = user_place(error)
    if found is None:
        for frame, line in _frames(error.__traceback__):
            file = Path(frame.f_code.co_filename)
            if _is_ours(file):
                found = Place(file.resolve(), line, frame.f_code.co_name)
    return found


def describe(error: BaseException) -> str:
    """Say in one line where the error was raised, its message and its notes.

    A caller that knows more, such as which call of a judge it was, adds it with `add_note`.
    """
    place = place_of(error)
    text = " ".join(str(error).split())
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if len(message) > _MAX_TEXT:
        message = f"{message[:_MAX_TEXT]}..."
    notes = "; ".join(" ".join(note.split()) for note in getattr(error, "__notes__", ()))
    return f"{place}: {message}{f' ({notes})' if notes else ''}" if place else message


def trace(error: BaseException) -> str:
    """Give the whole traceback as text, or only its end if it is very long."""
    return "".join(traceback.format_exception(error))[-_MAX_TRACE:]


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    for frame, line in traceback.walk_tb(trace):
        if not frame.f_code.co_filename.startswith("<"):
            yield frame, line


def _is_ours(file: Path) -> bool:
    file = file.resolve()
    if not file.is_relative_to(_ROOT):
        return False
    first = file.relative_to(_ROOT).parts[0]
    return first in _OURS or first == "cli.py"


def _home(file: Path) -> str | None:
    """Find the installed package that a file belongs to; "" for code of no package.

    None for Python itself, and for libraries that this program may import.
    """
    file = file.resolve()
    for folder in _INSTALLED:
        if file.is_relative_to(folder):
            package = file.relative_to(folder).parts[0].removesuffix(".py")
            return None if package in _LIBRARIES else package
    if any(file.is_relative_to(folder) for folder in _STANDARD):
        return None
    # a launcher such as pytest or torchrun lies in neither place
    return None if os.fspath(file).startswith(os.path.join(sys.prefix, "bin")) else ""
