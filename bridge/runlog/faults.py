"""Errors of the disk or HDF5 in a few words."""

from __future__ import annotations

import re

_SYSTEM_MESSAGE = re.compile(r"error message = '([^']+)'")


def reason(error: BaseException) -> str:
    """Extract the system's message from an HDF5 error, or else its first line."""
    text = str(error)
    found = _SYSTEM_MESSAGE.search(text)
    if found:
        return found[1]
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    return " ".join((text.splitlines() or [type(error).__name__])[0].split())
