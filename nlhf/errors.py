"""Errors meant for the user: invalid input, or a failure outside the program."""

from bridge.errors import InputError, OutsideFailed

__all__ = ["InputError", "OutsideFailed"]
