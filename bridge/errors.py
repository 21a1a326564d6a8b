"""What can go wrong outside the science, and the exit code each kind has on the command line."""

from __future__ import annotations


class InputError(ValueError):
    """A user's value cannot be used (exit 2); one line a mistake: value, what is legal, fix."""

    def __init__(self, *mistakes: str) -> None:
        """Take one mistake or several."""
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class RunFailed(RuntimeError):
    """A run ended without a result (exit 1); the message has the cause and a remedy."""


class OutsideFailed(RuntimeError):
    """What a run needs from outside has failed (exit 1); the run can go on once it works again."""


class LogGone(RunFailed):
    """A run's log was deleted, moved or replaced while it was written (exit 1)."""


class StorageError(OSError):
    """The disk refused to write or to keep what was written (exit 74)."""


class Stopped(Exception):
    """A signal has ended a run after a whole step, with a checkpoint written (exit 75)."""


class Interrupted(Stopped):
    """That signal was Ctrl-C."""
