"""How this program was called: the command that hints show and the words that logs keep."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "bioplaus"
"""The installed program."""
_CHECKOUTS = "cli.py"
WRITTEN = f"python {_CHECKOUTS}"
"""The program's name in docstrings; --help replaces it by the name used in the call."""


def program() -> str:
    """Give the command to call this program: `bioplaus`, `python cli.py`, `python -m bioplaus`.

    It is the command that started this process, so that a hint works where it is read. From Python
    it is `bioplaus`.
    """
    return shlex.join(_started() or [NAME])


def command_words(words: Sequence[str] | None = None) -> list[str]:
    """Give the words of a command line as a shell takes them.

    Args:
        words: the words after the program; by default those of this process. A user's own script
            is among them, as in sys.argv.
    """
    if words is None:
        return [*(_started() or sys.argv[:1]), *sys.argv[1:]]
    return [*(_started() or [NAME]), *words]


def without_program(words: Sequence[str]) -> list[str]:
    """Give the words after the program in the result of `command_words`, for any program."""
    first = list(words[:3])
    if first == ["python", "-m", NAME]:
        return list(words[3:])
    ours = first[:1] == ["python"] and len(first) > 1 and Path(first[1]).name == _CHECKOUTS
    return list(words[2 if ours else 1 :])


def is_program(words: Sequence[str]) -> bool:
    """Whether the words of a command line call this program, and not a user's own script."""
    program = words[: len(words) - len(without_program(words))]
    name = Path(program[-1])
    return name.name in (_CHECKOUTS, NAME) or name.stem == NAME


def _started() -> list[str] | None:
    """The words that started this program; None if another program started the process."""
    path = Path(sys.argv[0])
    if path.name == _CHECKOUTS:
        return ["python", sys.argv[0]]
    if path.parts[-2:] == (NAME, "__main__.py"):
        return ["python", "-m", NAME]
    return [NAME] if path.stem == NAME else None
