"""Store the base below an adapter with 4 or 8 bits per weight; bitsandbytes packs the weights."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from nlhf.errors import InputError
from nlhf.language.extras import need

Bits = Literal["4bit", "8bit"]
"""Blocks of 64 weights with one scale and the 16 values of NF4, or rows of 8-bit integers."""
BLOCK = 64


class PackedLinear(nn.Linear):
    """A linear layer that stores its weights in 4 or 8 bits, and unpacks them in every pass.

    It multiplies by the unpacked weights in the dtype of its input. So a row's output does not
    depend on other rows, and the gradient in the input is exact. bitsandbytes' own layers take
    other ways with and without a gradient, and round inputs to 8 bits too. The weights have no
    gradient.
    """

    def __init__(self, weight: Tensor, bias: nn.Parameter | None, bits: str) -> None:
        """Pack weights [out, in] on the device where they are.

        Source: Dettmers et al. 2023 (arXiv 2305.14314), section 3, for NF4; Dettmers et al. 2022
        (arXiv 2208.07339), section 2, for rows of integers (of the weights alone).
        """
        rows, columns = weight.shape
        super().__init__(columns, rows, bias=False, device="meta")
        self.bits = bits
        self._unpacked = weight.dtype if weight.dtype == torch.bfloat16 else torch.float32
        packing = need("bitsandbytes").functional
        if bits == "4bit":
            weight = weight.to(self._unpacked).contiguous()
            packed, how = packing.quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
            scale, code = how.absmax, how.code
        else:
            packed, scale, _ = packing.int8_vectorwise_quant(weight.half().contiguous())
            code = None
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.register_buffer("scale", scale)
        self.register_buffer("code", code)
        if bias is not None:
            self.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def unpacked(self) -> Tensor:
        """The weights that the layer multiplies by, [out, in], float32 or bfloat16."""
        packing = need("bitsandbytes").functional
        if self.bits == "8bit":
            return packing.int8_vectorwise_dequant(self.weight.data, self.scale)
        how = packing.QuantState(
            absmax=self.scale,
            code=self.code,
            blocksize=BLOCK,
            quant_type="nf4",
            shape=torch.Size((self.out_features, self.in_features)),
            dtype=self._unpacked,
        )
        return packing.dequantize_4bit(self.weight.data, how)

    def forward(self, input: Tensor) -> Tensor:
        """Outputs [..., out] of inputs [..., in]."""
        return _Product.apply(input, self)  # type: ignore[no-any-return]


class _Product(torch.autograd.Function):
    """x W^T + b, which keeps the packed weights for the gradient, not the unpacked ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: PackedLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return functional.linear(x, layer.unpacked().to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        return (grad @ ctx.layer.unpacked().to(grad.dtype)).to(ctx.dtype), None


def quantised(model: Any, bits: str, name: str, device: torch.device | str) -> Any:
    """Pack the weights of a model's linear layers, one by one, on the device.

    Embeddings, the layer of the logits, norms and experts that are stored in one tensor keep their
    weights.

    Args:
        model: a causal model on the CPU; changed in place, and moved to the device.
        bits: "4bit" or "8bit".
        name: name of the model in messages.
        device: where to pack.

    Raises:
        InputError: bitsandbytes is missing, or the model has no linear layers to pack.
    """
    if bits not in get_args(Bits):
        raise InputError(f"quantise={bits!r} is unknown; use {' or '.join(get_args(Bits))}")
    kept = need("transformers.quantizers.base").get_keys_to_not_convert(model)
    kept += getattr(model, "_keep_in_fp32_modules", None) or []
    packs = need("transformers.quantizers.quantizers_utils").should_convert_module
    need("bitsandbytes")
    layers = {place: layer for place, layer in model.named_modules() if type(layer) is nn.Linear}
    layers = {place: layer for place, layer in layers.items() if packs(place, kept)}
    if not layers:
        raise InputError(
            f"quantise={bits}: {name} ({type(model).__name__}) has no linear layers to pack"
        )
    for place, layer in layers.items():
        model.set_submodule(place, PackedLinear(layer.weight.detach().to(device), layer.bias, bits))
    return model.to(device)


def unpack(model: nn.Module) -> None:
    """Replace every packed layer by a linear layer with the weights that it multiplies by."""
    packed = [(place, m) for place, m in model.named_modules() if isinstance(m, PackedLinear)]
    dtype = next(each.dtype for each in model.parameters() if each.is_floating_point())
    for place, layer in packed:
        whole = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        whole.weight = nn.Parameter(layer.unpacked().to(dtype), requires_grad=False)
        whole.bias = layer.bias
        model.set_submodule(place, whole)


def is_packed(model: nn.Module) -> bool:
    """Whether some of the weights are not floating-point numbers."""
    return not all(each.is_floating_point() for each in model.parameters())


def dequantised(model: Any, dtype: torch.dtype, name: str) -> Any:
    """A model that transformers loaded from packed weights, with whole weights in their place.

    Args:
        model: its config has a `quantization_config`.
        dtype: dtype of the weights.
        name: name of the model in messages.

    Raises:
        InputError: its weights are not packed.
    """
    if not is_packed(model):
        raise InputError(
            f"model={name!r}: its config.json has a quantization_config, but its weights are "
            "whole; take the key out"
        )
    return model.dequantize(dtype)
