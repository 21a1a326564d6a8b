"""Calls whose arguments do not fit are one line; see `bridge.calling`."""

from bridge.calling import Answered, answered, unknown_argument

__all__ = ["Answered", "answered", "unknown_argument"]
