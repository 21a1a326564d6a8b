"""Convert real and complex tensors to double precision."""

import torch
from torch import Tensor


def double(t: Tensor) -> Tensor:
    """Convert a tensor to float64 or complex128, or return it if it is that already."""
    return t.to(torch.promote_types(t.dtype, torch.float64))
