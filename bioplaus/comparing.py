"""Equality of values that hold tensors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Alike:
    """Mixin that compares dataclasses (with eq=False) field by field; see `same`."""

    def __eq__(self, other: object) -> bool:
        return _fields_same(self, other) if type(other) is type(self) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal.

    Tensors are equal if all entries, the dtype and the device are. NaN equals NaN.
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        alike = a.dtype == b.dtype and a.device == b.device and a.shape == b.shape
        return alike and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, torch.Generator):
        return torch.equal(a.get_state(), b.get_state())
    equal = a == b
    return bool(equal.all() if hasattr(equal, "all") else equal) or _fields_same(a, b)


def _fields_same(a: Any, b: Any) -> bool:
    if not dataclasses.is_dataclass(a):
        return False
    return all(
        same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a) if f.compare
    )
