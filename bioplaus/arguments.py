"""Convert the inputs and targets that users pass into the form that a field computes with."""

from __future__ import annotations

import torch
from torch import Tensor

from bioplaus.arrays import to_array
from bioplaus.costs import one_hot
from bioplaus.errors import InputError
from bioplaus.fields.base import VectorField


def as_inputs(x: object, field: VectorField, name: str = "x") -> Tensor:
    """Convert an input to the dtype, device and shape that a field takes.

    Args:
        x: a tensor, numpy array, data frame or nested list of floats, one input per row.
        field: determines the dtype, the device and, if it is known, the shape of a row.
        name: name of the argument, for messages.

    Returns:
        [B, ...], as `field.field` takes it.

    Raises:
        InputError: x is not an array of finite floats, or its rows have the wrong size.
    """
    x = _tensor(name, x)
    if x.dtype == torch.bool:
        x = x.to(field.dtype)
    if not (x.is_floating_point() or x.is_complex()):
        raise InputError(
            f"{name} holds {_plain(x.dtype)}: give floats, on the scale that the field learns from "
            f"({name} / 255 of grey levels)"
        )
    shape = field.input
    if x.ndim < 2:
        of = "[B, n]" if shape is None else f"[B, {', '.join(map(str, shape))}]"
        raise InputError(
            f"{name} is of shape {tuple(x.shape)}: give rows, {of}; of a single one {name}[None]"
        )
    if shape is not None and tuple(x.shape[1:]) != shape:
        if x[:0].flatten(1).shape[1] != torch.Size(shape).numel():
            size = shape[0] if len(shape) == 1 else shape
            raise InputError(
                f"{name} is of shape {tuple(x.shape)}; its rows must be of {size} inputs"
            )
        x = x.reshape(len(x), *shape)
    x = x.detach().to(device=field.device, dtype=field.dtype)
    _require_finite(name, x)
    return x


def as_targets(y: object, field: VectorField, rows: int, name: str = "y") -> Tensor:
    """Convert targets to [B, n_output]; labels become one-hot rows.

    Args:
        y: labels [B], whole numbers from 0 to n_output - 1; or target vectors [B, n_output].
        field: determines the dtype, the device and the number of outputs.
        rows: B.
        name: name of the argument, for messages.

    Raises:
        InputError: y has the wrong shape or length, or a label is out of range.
    """
    y, m = _tensor(name, y), field.n_output
    if y.ndim == 0 or len(y) != rows:
        got = f"is of shape {tuple(y.shape)}" if y.ndim == 0 else f"has {len(y)} rows"
        raise InputError(f"{name} {got}, but there are {rows} inputs; give one target each")
    if y.ndim == 2 and y.shape[1] == m and (m > 1 or y.is_floating_point()):
        y = y.detach().to(device=field.device, dtype=field.dtype)
        _require_finite(name, y)
        return y
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise InputError(
            f"{name} is of shape {tuple(y.shape)}; give labels [{rows}] or target vectors "
            f"[{rows}, {m}], n_output={m} numbers each"
        )
    if y.is_floating_point() or y.is_complex():
        raise InputError(
            f"{name} holds {_plain(y.dtype)}, one a row: labels are integers, target vectors "
            f"[{rows}, {m}]"
        )
    labels = y.detach().to(device=field.device, dtype=torch.int64)
    if rows and (int(labels.min()) < 0 or int(labels.max()) >= m):
        wrong = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
        raise InputError(
            f"{name} holds the label {wrong}, legal is 0 to {m - 1}: the field has {m} outputs; "
            "number the classes from 0"
        )
    return one_hot(labels, m, field.dtype)


def _tensor(name: str, value: object) -> Tensor:
    if isinstance(value, Tensor):
        return value.to_dense() if value.layout != torch.strided else value
    array = to_array(name, value)
    if array.dtype.kind in "US":
        raise InputError(f"{name} holds text: give numbers")
    unsigned = array.dtype.kind == "u" and array.dtype.itemsize > 1  # torch supports few of these
    return torch.from_numpy(array.astype("int64") if unsigned else array)


def _require_finite(name: str, value: Tensor) -> None:
    bad = ~torch.isfinite(value).flatten(1).all(1)
    if bool(bad.any()):
        raise InputError(
            f"{name} is NaN or infinite in row {int(bad.int().argmax())}, and in {int(bad.sum())} "
            "rows in all: leave them out, or replace the values"
        )


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
