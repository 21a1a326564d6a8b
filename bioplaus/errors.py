"""The error that a user's mistake raises: one class for the whole program."""

from bridge.errors import InputError

__all__ = ["InputError"]
