"""How this program is called: what hints tell to type, and what logs keep of a command line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "bioplaus"
"""The program, installed."""
_CHECKOUTS = "cli.py"
WRITTEN = f"python {_CHECKOUTS}"
"""The program in docstrings, whose examples --help prints under the name it was called by."""


def program() -> str:
    """What to type for this program: `bioplaus`, `python cli.py` or `python -m bioplaus`.

    It is what this process was started by, so that a hint works where it is read. From Python it
    is `bioplaus`.
    """
    return shlex.join(_started() or [NAME])


def command_words(words: Sequence[str] | None = None) -> list[str]:
    """The words of a command line as a shell takes them.

    Args:
        words: what follows the program; what this process was given if None. A script of the
            user's stands there itself, as in sys.argv.
    """
    if words is None:
        return [*(_started() or sys.argv[:1]), *sys.argv[1:]]
    return [*(_started() or [NAME]), *words]


def without_program(words: Sequence[str]) -> list[str]:
    """What follows the program in a command line that `command_words` gave, of whatever program."""
    first = list(words[:3])
    if first == ["python", "-m", NAME]:
        return list(words[3:])
    ours = first[:1] == ["python"] and len(first) > 1 and Path(first[1]).name == _CHECKOUTS
    return list(words[2 if ours else 1 :])


def _started() -> list[str] | None:
    """The words that started this program; None in a process that is another's."""
    path = Path(sys.argv[0])
    if path.name == _CHECKOUTS:
        return ["python", sys.argv[0]]
    if path.parts[-2:] == (NAME, "__main__.py"):
        return ["python", "-m", NAME]
    return [NAME] if path.stem == NAME else None
