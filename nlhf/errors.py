"""What a user has to hear: a mistake in what was given, or a failure outside of the program."""

from bridge.errors import InputError, OutsideFailed

__all__ = ["InputError", "OutsideFailed"]
