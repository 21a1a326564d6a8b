"""The error that a user's mistake raises; the whole program uses this one class."""

from bridge.errors import InputError

__all__ = ["InputError"]
