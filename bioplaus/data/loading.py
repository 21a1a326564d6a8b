"""Find and read data by name, file, folder or loader, and make a data set."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bioplaus.data.arrays import raw_arrays
from bioplaus.data.assembling import Wishes, assemble
from bioplaus.data.dataset import Dataset
from bioplaus.data.known import KNOWN, read_known
from bioplaus.data.raw import Channels, Part, Raw
from bioplaus.data.reader import AbstractReader
from bioplaus.data.registry import as_reader, get_reader, locate
from bioplaus.errors import InputError

Reader = str | AbstractReader | type[AbstractReader] | Callable[[Path], Any]
"""A reader: its name, an object, a class, or a function of a path with a reader's result."""


def load_dataset(
    source: str | Callable[[], Any],
    data_dir: Path | None = None,
    dtype: torch.dtype = torch.float32,
    train_size: int | None = None,
    test_size: int | None = None,
    value_range: tuple[float, float] | None = None,
    *,
    split: str | None = None,
    holdout: float | None = None,
    holdout_seed: int = 0,
    channels: Channels | None = None,
    reader: Reader | None = None,
    needs_test: bool = True,
) -> Dataset:
    """Load a data set by name, from a file or a folder, or from a function.

    A name takes precedence over a folder of the same name; `./mnist` is the folder. A file or a
    folder is read by the reader that recognises it, see `bioplaus.data.registry.locate`. For the
    conversion of values to states see `bioplaus.data.scaling.scales`.

    Args:
        source: "mnist", "fashion-mnist", a file, a folder; or a function that returns a `Dataset`,
            (x_train, y_train) or (x_train, y_train, x_test, y_test).
        data_dir: where a named data set's files are, if not in the usual place.
        dtype: floating-point type of the inputs.
        train_size: number of training examples to keep, the first ones; all by default.
        test_size: likewise for the test examples.
        value_range: the values that become 0 and 1, if not those of the files' type.
        split: selects one of several data sets in a folder.
        holdout: fraction of a training set to hold out as a test set if there is none.
        holdout_seed: seed of that draw.
        channels: position of the channels in [N, ., ., .]; None detects it.
        reader: reader of the file or folder, if not the one that recognises it.
        needs_test: whether to reject a data set without a test set.

    Raises:
        InputError: a file is missing, damaged, mislabelled or does not fit the others.
    """
    wishes = Wishes(
        train_size,
        test_size,
        value_range,
        channels,
        holdout,
        holdout_seed,
        needs_test=needs_test,
    )
    if callable(source):
        name = getattr(source, "__name__", "loader")
        if split is not None or reader is not None:
            option = "split" if split is not None else "reader"
            raise InputError(f"{option} has no effect: {name} gives the data set; leave it out")
        return _assembled(source(), name, dtype, wishes)
    if reader is None and source in KNOWN:
        return assemble(Dataset, read_known(source, data_dir, split), source, dtype, wishes)
    place = _place(source, data_dir)
    name = place.resolve().name
    if reader is None:
        found, home = locate(place)
        given = found.read(home, split)
        if home != place and isinstance(given, Raw):
            given = dataclasses.replace(given, facts={**given.facts, "folder": str(home)})
        return _assembled(given, name, dtype, wishes)
    return _assembled(_read_by(reader, place, split), name, dtype, wishes)


def _assembled(given: object, name: str, dtype: torch.dtype, wishes: Wishes) -> Dataset:
    if isinstance(given, Dataset):
        if given.has_labels:
            wishes = dataclasses.replace(wishes, num_classes=given.num_outputs)
        made = assemble(Dataset, _raw_of(given), name, dtype, wishes)
        return dataclasses.replace(made, name=given.name if given.name != "arrays" else name)
    return assemble(Dataset, as_raw(given, name), name, dtype, wishes)


def as_raw(given: object, name: str) -> Raw:
    """Convert the result of a reader or a loader to a `Raw`.

    Raises:
        InputError: the result is neither a `Raw` nor two or four arrays.
    """
    if isinstance(given, Raw):
        return given
    if isinstance(given, list | tuple):
        pairs = [isinstance(each, list | tuple) and len(each) == 2 for each in given]
        if len(given) == 2 and all(pairs) and not isinstance(given[0][0], int | float | str):
            given = (*given[0], *given[1])  # ((x_train, y_train), (x_test, y_test))
        if len(given) in (2, 4):
            return dataclasses.replace(raw_arrays(*given), format="arrays")
    held = f"{len(given)} values" if isinstance(given, list | tuple) else type(given).__name__
    raise InputError(
        f"{name} gave {held}: return a Dataset, (x_train, y_train) or (x_train, y_train, x_test, "
        "y_test)"
    )


def _raw_of(data: Dataset) -> Raw:
    """Convert a data set back to a reader's result."""
    sides = {"train": data.train, "test": data.test}
    parts = [
        Part(
            each.inputs.cpu().numpy().reshape(-1, *data.shape),
            each.targets.cpu().numpy(),
            f"{data.name}'s {side} inputs",
            f"{data.name}'s {side} targets",
        )
        for side, each in sides.items()
        if len(each)
    ]
    return Raw(
        train=parts[0],
        test=parts[1] if len(parts) > 1 else None,
        digests=(data.sha256,),
        class_names=data.class_names,
        channels="first" if len(data.shape) == 3 else None,
        keep_floats=True,
        format=str(data.facts.of.get("format", "")),
        warnings=data.facts.warnings,
    )


def _read_by(reader: Reader, place: Path, split: str | None) -> Any:
    if isinstance(reader, str):
        return get_reader(reader).read(place, split)
    if isinstance(reader, AbstractReader) or inspect.isclass(reader):
        return as_reader(reader, getattr(reader, "__name__", "")).read(place, split)
    if split is not None:
        raise InputError(f"split={split!r} has no effect: a function reads {place}; leave it out")
    return reader(place)


def _place(source: str, data_dir: Path | None) -> Path:
    """The file or folder that a string names.

    Raises:
        InputError: it does not exist, or `data_dir` is given as well.
    """
    place = Path(os.path.expanduser(source))
    if not source or not os.path.exists(place):  # returns False, without an error, for any string
        near = difflib.get_close_matches(source, KNOWN, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(
            f"no data set {source[:200]!r}: legal are {', '.join(KNOWN)}, or an existing folder or "
            f"file, or module:function{hint}"
        )
    if not (os.path.isdir(place) or os.path.isfile(place)):
        raise InputError(f"{place} is neither a file nor a folder: name one of data")
    if data_dir is not None:
        raise InputError(
            f"two folders given, {place} and {data_dir}: give one; data_dir goes with a name "
            f"({', '.join(KNOWN)})"
        )
    return place
