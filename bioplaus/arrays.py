"""Convert arrays from users (numpy, torch, pandas, lists) to numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bioplaus.errors import InputError


def to_array(name: str, value: Any) -> np.ndarray:
    """Convert a tensor, a data frame, a series, a list or any array-like value.

    Args:
        name: name of the value in messages.
        value: holds integers, floats, booleans or text.

    Raises:
        InputError: the value is none of these, is ragged, or holds anything else.
    """
    if isinstance(value, Tensor):
        return _from_torch(name, value)
    if isinstance(value, str | bytes | Mapping) or value is None:
        raise InputError(
            f"{name} is {type(value).__name__}: give a numpy array, a torch tensor or a data frame"
        )
    if hasattr(value, "to_numpy"):
        columns = getattr(value, "columns", None)
        array = value.to_numpy()
        if array.dtype == object and columns is not None and array.ndim == 2:
            array = _from_columns(name, array, [str(column) for column in columns])
    elif np.ma.isMaskedArray(value):
        if np.ma.getmaskarray(value).any():
            raise InputError(f"{name} has masked values: fill them, or leave their rows out")
        array = np.asarray(value)
    else:
        if isinstance(value, list | tuple) and any(isinstance(each, Tensor) for each in value):
            value = [each.detach().cpu().numpy() if isinstance(each, Tensor) else each
                     for each in value]  # fmt: skip
        try:
            array = np.asarray(value)
        except ValueError:
            raise InputError(f"{name} is ragged: give rows of one shape") from None
    if array.dtype == object:
        array = _from_objects(name, value, array)
    if array.dtype.kind not in "buifUS":
        raise InputError(f"{name} holds {array.dtype}: give integers, floats or names of classes")
    return _usual(array)


def _from_torch(name: str, value: Tensor) -> np.ndarray:
    value = value.detach()
    if value.layout != torch.strided:
        value = value.to_dense()
    if value.is_complex():
        raise InputError(f"{name} holds {value.dtype}: give integers or floats")
    if value.dtype == torch.bfloat16:
        value = value.float()
    return _usual(value.cpu().numpy())


def _usual(array: np.ndarray) -> np.ndarray:
    """Convert to native byte order, half-precision floats to float32 and longer ones to float64."""
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _from_columns(name: str, array: np.ndarray, columns: list[str]) -> np.ndarray:
    """Convert a data frame whose columns have different types to float64."""
    for column, label in zip(array.T, columns, strict=True):
        try:
            column.astype(np.float64)
        except (TypeError, ValueError):
            raise InputError(
                f"{name} has no number everywhere in column {label!r}: leave it out, or encode it"
            ) from None
    return array.astype(np.float64)


def _from_objects(name: str, value: object, array: np.ndarray) -> np.ndarray:
    if array.ndim == 0:
        hint = "; give x.toarray()" if hasattr(value, "toarray") else ""
        raise InputError(
            f"{name} is {type(value).__name__}: give a numpy array, a torch tensor or a data "
            f"frame{hint}"
        )
    flat = array.ravel().tolist()
    if all(isinstance(each, str) for each in flat):
        return array.astype(str)
    wrong = next(
        (i for i, each in enumerate(flat) if not isinstance(each, int | float | np.number)), None
    )
    if wrong is not None:
        where = wrong // max(array.size // len(array), 1)
        kind = type(flat[wrong]).__name__
        raise InputError(f"{name} holds {kind} in row {where}: give integers, floats or text")
    made = np.array(flat).reshape(array.shape)
    if made.dtype == object:
        raise InputError(f"{name} holds whole numbers of more than 64 bits: give smaller ones")
    return made
