"""Stacks of convolutions as a field, with separate forward and feedback kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bioplaus.errors import InputError
from bioplaus.fields.connections import Connection, Conv, Dense, Tied
from bioplaus.fields.layer import Layer
from bioplaus.fields.layered import LayeredField

WAYS_BACK = ("independent", "tied", "none")
FEEDBACK_GAIN = 0.1
"""Default scale of feedback weights of their own."""


def convolutional(
    input: tuple[int, ...],
    n_output: int,
    channels: tuple[int, ...] = (64, 128, 256, 256),
    *,
    kernel: int = 3,
    unpooled: tuple[int, ...] = (),
    pool: str = "average",
    skips: tuple[int, ...] = (),
    activation: str = "relu",
    coordinates: str = "membrane",
    gain: float = 1.4,
    feedback_gain: float = FEEDBACK_GAIN,
    feedback: str = "independent",
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LayeredField:
    """A stack of convolutions with linear outputs, in which each layer gets feedback from the next.

    Feedback kernels are drawn independently of the forward kernels. In many dimensions, two such
    draws are at 90 degrees, plus or minus 57 / sqrt(weights) degrees.

    Args:
        input: channels, height and width of an image.
        n_output: number of linear outputs, which are fully connected to the last convolution.
        channels: number of channels of each convolution.
        kernel: width of the kernels, odd.
        unpooled: the convolutions, counted from 1, without pooling over windows of 2 after them.
        pool: `average`, `max` or `softmax` pooling.
        skips: convolutions from which a 1 x 1 convolution leads two layers up, and another back.
        activation: activation function of the hidden units, e.g. relu, relu6, hard-sigmoid, dsilu.
        coordinates: `membrane` or `activity`, see `LayeredField`; `clipped` keeps the states in
            [0, 1], with the activation hard-sigmoid.
        gain: scale of the forward weights, drawn from N(0, gain^2 / fan_in).
        feedback_gain: scale of the feedback weights.
        feedback: `independent`; `tied`: the transposed forward kernels (of average pooling); or
            `none`: a feedforward network, whose exact gradient is that of backpropagation.
        generator: source of the random numbers.
        dtype: float32 or float64.
        device: where the parameters live.

    Raises:
        InputError: an image size is not divisible by the pooling, or a setting is out of range or
            left without effect by another.

    Examples:
        >>> net = convolutional((3, 16, 16), 10, (8, 16, 16), skips=(1,), unpooled=(2,))
        >>> net.shapes
        ((3, 16, 16), (8, 8, 8), (16, 8, 8), (16, 4, 4), (10,))
    """
    if feedback not in WAYS_BACK:
        raise InputError(f"feedback={feedback!r} is unknown; use one of {', '.join(WAYS_BACK)}")
    if feedback != "independent" and feedback_gain != FEEDBACK_GAIN:
        raise InputError(
            f"feedback_gain={feedback_gain} has no effect with feedback={feedback!r}, which has no "
            "feedback weights of its own; leave one out"
        )
    windows = _windows(len(channels), unpooled)
    if pool != "average" and all(window == 1 for window in windows):
        raise InputError(
            f"pool={pool!r} has no effect where unpooled names every convolution; leave one out"
        )
    shapes = _shapes(input, channels, windows, kernel)
    joins = [(k, k + 1, _settings(kernel, pool, window)) for k, window in enumerate(windows)]
    joins += _skips(shapes, pool, skips)
    connections: list[Connection] = []
    for below, above, settings in joins:
        connections.append(Conv(below, above, gain=gain, **settings))
        if below and feedback == "tied":
            connections.append(Tied(above, below))
        elif below and feedback == "independent":
            back = Conv(above, below, feedback=True, gain=feedback_gain, **settings)
            connections.append(back)
    last = len(channels) + 1
    connections.append(Dense(last - 1, last))
    if feedback == "tied":
        connections.append(Tied(last, last - 1))
    elif feedback == "independent":
        connections.append(Dense(last, last - 1, gain=feedback_gain))
    if coordinates == "clipped":
        if getattr(activation, "name", activation) != "hard-sigmoid":
            raise InputError(
                f'coordinates="clipped" keeps states where a hard-sigmoid is the identity, not '
                f'{activation!r}; use activation="hard-sigmoid", or coordinates="membrane"'
            )
        activation, coordinates = "clipped", "membrane"
    layers = [*(Layer(shape, activation) for shape in shapes), Layer(n_output, "linear")]
    return LayeredField(
        tuple(input),
        layers,
        connections,
        coordinates=coordinates,
        generator=generator,
        dtype=dtype,
        device=device,
    )


convolutional.name = "convolutional"  # pyright: ignore[reportFunctionMemberAccess]


def _windows(depth: int, unpooled: Sequence[int]) -> list[int]:
    """The pooling window after each convolution."""
    if depth < 1:
        raise InputError("channels=() has no convolution; give at least one")
    for k in unpooled:
        if not 1 <= k <= depth:
            raise InputError(f"unpooled={k} names no convolution; they are 1 to {depth}")
    return [1 if k in unpooled else 2 for k in range(1, depth + 1)]


def _shapes(
    input: Sequence[int], channels: Sequence[int], windows: Sequence[int], kernel: int
) -> list[tuple[int, int, int]]:
    """Channels, height and width of each convolutional layer."""
    if len(input) != 3:
        raise InputError(f"input={tuple(input)} is no picture; give (channels, height, width)")
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"kernel={kernel} must be odd, so that a convolution keeps the sides")
    found, (_, height, width) = [], input
    for k, (c, window) in enumerate(zip(channels, windows, strict=True), 1):
        if height % window or width % window:
            raise InputError(
                f"convolution {k} is over {height} x {width}, which has no whole windows of "
                f"{window}: add {k} to unpooled"
            )
        height, width = height // window, width // window
        found.append((c, height, width))
    return found


def _skips(
    shapes: Sequence[tuple[int, int, int]], pool: str, skips: Sequence[int]
) -> list[tuple[int, int, dict[str, Any]]]:
    """Source, target and settings of the convolutions that skip a layer."""
    most = len(shapes) - 2
    for k in skips:
        if not 1 <= k <= most:
            legal = f"use 1 to {most}" if most >= 1 else "leave it out"
            raise InputError(f"skips={k}: there is no convolution two layers above it; {legal}")
    return [(k, k + 2, _settings(1, pool, shapes[k - 1][1] // shapes[k + 1][1])) for k in skips]


def _settings(kernel: int, pool: str, window: int) -> dict[str, Any]:
    pooling = {} if window == 1 else {"pool": pool, "window": window}
    return {"kernel": kernel, **pooling}
