"""What the disk or HDF5 complained about, in a few words."""

from __future__ import annotations

import re

_SYSTEM_MESSAGE = re.compile(r"error message = '([^']+)'")


def reason(error: BaseException) -> str:
    """Give the system's own words out of an error of HDF5, or its first line."""
    text = str(error)
    found = _SYSTEM_MESSAGE.search(text)
    if found:
        return found[1]
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    return " ".join((text.splitlines() or [type(error).__name__])[0].split())
