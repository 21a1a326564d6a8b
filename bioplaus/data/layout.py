"""Images in one order: channels x height x width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from bioplaus.data.raw import Channels
from bioplaus.errors import InputError


def channels_first(
    arrays: Sequence[np.ndarray], names: Sequence[str], channels: Channels | None
) -> tuple[list[np.ndarray], str]:
    """Bring [N, H, W, C] to [N, C, H, W]; leave all else.

    Without a word, the channels are last where the last axis has 1 or 3 elements and the second has
    neither, or where the last has 4 and the second has none of these numbers.

    Args:
        arrays: inputs of one shape but for N.
        names: what messages call them.
        channels: where they stand; recognised if None.

    Returns:
        The arrays, and how they were read; "" where there is nothing to say.

    Raises:
        InputError: `channels` is given for what has no four dimensions, or is neither of the two.
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
        # four channels are RGB with transparency, and rarer than images four pixels high
        usual = (1, 3) if shape[3] in (1, 3) else (1, 3, 4)
        last = shape[3] in (1, 3, 4) and shape[1] not in usual
    if not last:
        return list(arrays), "channels x height x width"
    told = "height x width x channels, put into channels x height x width"
    return [np.ascontiguousarray(np.moveaxis(array, 3, 1)) for array in arrays], told
