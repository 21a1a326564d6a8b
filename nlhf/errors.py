"""What a user has to hear: a mistake in what was given, or a failure outside of the program."""

from bridge.errors import InputError, RunFailed

__all__ = ["InputError", "RunFailed"]
