"""Double precision of real and complex tensors."""

import torch
from torch import Tensor


def double(t: Tensor) -> Tensor:
    """The tensor in float64 or complex128; itself if it is there already."""
    return t.to(torch.promote_types(t.dtype, torch.float64))
