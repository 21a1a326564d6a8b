"""Initial weights: drawn at an angle to one another, and checked for the range of their dtype."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bioplaus.errors import InputError


def turned(mirror: Tensor, draw: Tensor, angle: float) -> Tensor:
    """A matrix with the norm of `mirror`, at exactly `angle` degrees from it toward `draw`.

    It is cos(angle) M + sin(angle) D ||M|| / ||D||, where D is the part of the draw orthogonal
    to M.

    Args:
        mirror: M, not zero.
        draw: a random matrix of the same shape.
        angle: 0 (M itself) to 180 (-M itself); other angles need two entries or more.
    """
    if angle in (0.0, 180.0):
        return math.cos(math.radians(angle)) * mirror
    norm = torch.linalg.norm(mirror)
    across = draw - (draw * mirror).sum() / norm**2 * mirror
    if torch.linalg.norm(across) < 0.01 * torch.linalg.norm(draw):  # repeat if rounding dominates
        across -= (across * mirror).sum() / norm**2 * mirror
    across *= norm / torch.linalg.norm(across)
    radians = math.radians(angle)
    return math.cos(radians) * mirror + math.sin(radians) * across


def require_angle(sizes: Sequence[int], angle: float) -> None:
    """Reject an angle that single weights cannot have.

    Args:
        sizes: units per layer, the input first.
        angle: angle between feedback and transposed feedforward weights, in degrees.

    Raises:
        InputError: two adjacent layers have one unit each, and the angle is neither 0 nor 180.
    """
    single = any(pair == (1, 1) for pair in itertools.pairwise(sizes[1:]))
    if single and angle not in (0.0, 180.0):
        raise InputError(
            f"angle={angle} in sizes={list(sizes)}: between two layers of one unit a weight is at "
            "0 or 180 degrees to another; use angle=0, angle=180, or asymmetry instead of angle"
        )


def require_scale(parameters: Mapping[str, Tensor], settings: str) -> None:
    """Reject weights that underflow or overflow in their dtype.

    Args:
        parameters: all parameters of a field; biases may be zero.
        settings: the settings that scale them, for the message.

    Raises:
        InputError: the squared norm of a matrix is not a normal floating-point number.
    """
    for name, p in parameters.items():
        tiny = torch.finfo(p.dtype).tiny / torch.finfo(p.dtype).eps
        if not (name.startswith("bias") or tiny <= p.square().sum() < math.inf):
            raise InputError(
                f"{settings}: {name} leaves the range of {p.dtype}; use values nearer 1"
            )
