"""Random trials in three numbers: for every change, for every landing, and before a release."""

from __future__ import annotations

from typing import Any

import pytest


def in_numbers(few: object, some: object, many: object) -> list[Any]:
    """Parameters of one test: `few` by default, `some` marked slow, and `many` slow and long."""
    marks = ((), pytest.mark.slow, (pytest.mark.slow, pytest.mark.long))
    sets = (each if isinstance(each, tuple) else (each,) for each in (few, some, many))
    return [pytest.param(*each, marks=mark) for each, mark in zip(sets, marks, strict=True)]
