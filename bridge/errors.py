"""Errors that are not bugs, and the exit code of each kind on the command line."""

from __future__ import annotations


class InputError(ValueError):
    """A user's value cannot be used (exit 2); one line per mistake: value, what is legal, fix."""

    def __init__(self, *mistakes: str) -> None:
        """Take one or several mistakes."""
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class RunFailed(RuntimeError):
    """A run ended without a result (exit 1); the message has the cause and a remedy."""


class OutsideFailed(RuntimeError):
    """Something outside the program failed (exit 1); the run can go on once it works again."""


class LogGone(RunFailed):
    """A run's log was deleted, moved or replaced while it was being written (exit 1)."""


class StorageError(OSError):
    """The disk refused to write or to keep what was written (exit 74)."""


class Stopped(Exception):
    """A signal ended a run after a complete step, with a checkpoint written (exit 75)."""


class Interrupted(Stopped):
    """The signal was Ctrl-C."""
