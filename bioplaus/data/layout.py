"""Convert images to one layout: channels x height x width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from bioplaus.data.raw import Channels
from bioplaus.errors import InputError


def channels_first(
    arrays: Sequence[np.ndarray], names: Sequence[str], channels: Channels | None
) -> tuple[list[np.ndarray], str]:
    """Convert [N, H, W, C] to [N, C, H, W], and leave everything else unchanged.

    By default, the channels are taken to be last if the last axis has 1 or 3 elements and the
    second has neither, or if the last has 4 and the second has none of 1, 3 and 4.

    Args:
        arrays: inputs whose shapes differ only in N.
        names: their names in messages.
        channels: position of the channels; None detects it.

    Returns:
        The arrays, and a note on how they were read, or "".

    Raises:
        InputError: `channels` is given for arrays without four dimensions, or is not legal.
    """
    if channels not in (None, *get_args(Channels)):
        raise InputError(f'channels={channels!r} is unknown; use "first" or "last"')
    shape = arrays[0].shape
    if len(shape) != 4:
        if channels is not None:
            raise InputError(
                f"channels={channels!r} is for four dimensions, but {names[0]} has shape "
                f"{list(shape)}; leave it out"
            )
        return list(arrays), ""
    last = channels == "last"
    if channels is None:
        # four channels (RGB with transparency) are rarer than images four pixels high
        usual = (1, 3) if shape[3] in (1, 3) else (1, 3, 4)
        last = shape[3] in (1, 3, 4) and shape[1] not in usual
    if not last:
        return list(arrays), "channels x height x width"
    note = "height x width x channels, put into channels x height x width"
    return [np.ascontiguousarray(np.moveaxis(array, 3, 1)) for array in arrays], note
