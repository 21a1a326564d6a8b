"""Convert the arrays of a training and a test set to a reader's result."""

from __future__ import annotations

from collections.abc import Sequence

from bioplaus.arrays import to_array
from bioplaus.data.raw import Channels, Part, Raw
from bioplaus.errors import InputError

NAMES = ("x_train", "y_train", "x_test", "y_test")


def raw_arrays(
    x_train: object,
    y_train: object,
    x_test: object = None,
    y_test: object = None,
    names: Sequence[str] = NAMES,
    channels: Channels | None = None,
) -> Raw:
    """Convert a user's arrays to a reader's result; floats are used as states unchanged.

    Raises:
        InputError: one of them is not an array of numbers; the message names it.
    """
    given = (x_train, y_train, x_test, y_test)
    for i in (0, 2):
        if (given[i] is None) != (given[i + 1] is None):
            there, missing = (i + 1, i) if given[i] is None else (i, i + 1)
            raise InputError(f"{names[there]} is given without {names[missing]}: give both")
    if x_train is None:
        raise InputError(f"{names[0]} is None: give a numpy array, a torch tensor or a data frame")
    parts = [
        Part(to_array(names[i], given[i]), to_array(names[i + 1], given[i + 1]), *names[i : i + 2])
        for i in (0, 2)
        if given[i] is not None
    ]
    return Raw(
        train=parts[0],
        test=parts[1] if len(parts) > 1 else None,
        channels=channels,
        keep_floats=True,
    )
