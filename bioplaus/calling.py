"""Report calls with wrong arguments in one line; see `bridge.calling`."""

from bridge.calling import Answered, answered, unknown_argument

__all__ = ["Answered", "answered", "unknown_argument"]
