"""The elementwise work between two products, which a recorded run may compile.

Each function writes to its first argument, or the first two. Outside `compiled_by`, they run
operation by operation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from torch import Tensor

from bioplaus.activations import Activation
from bioplaus.nudging.nudge import pulled

Work = Callable[..., None]
Rho = Callable[..., Tensor]
Compiler = Callable[[Work], Work]
_compiler: ContextVar[Compiler | None] = ContextVar("compiler", default=None)


@contextlib.contextmanager
def compiled_by(compiler: Compiler) -> Iterator[None]:
    """Do the work of a block by what `compiler` makes of it."""
    token = _compiler.set(compiler)
    try:
        yield
    finally:
        _compiler.reset(token)


def do(work: Work, *args: Any) -> None:
    """Do elementwise work, compiled within `compiled_by`."""
    compiler = _compiler.get()
    (work if compiler is None else compiler(work))(*args)


def fire(rho: Activation, s: Tensor, out: Tensor) -> None:
    """Write rho(s) to `out`, [B, n]."""
    compiler = _compiler.get()
    if compiler is None:
        rho(s, out)
    else:
        compiler(write)(out, rho.value, s)


def change_of(rho: Activation) -> Rho:
    """(s, d) -> rho(s + d) - rho(s), as a function without a reference to `rho`."""
    value = rho.value
    return rho.change or (lambda s, d: value(s + d) - value(s))


def write(out: Tensor, rho: Rho, *args: Tensor) -> None:
    """Write rho, or its change, to `out` [B, n]."""
    out.copy_(rho(*args))


def write_signals(
    r: Tensor, v: Tensor | None, own: Tensor, slope: Tensor, change: Rho | None, free: Tensor
) -> None:
    """Write the signals of the exact rule: r = change(s*, d) - D d, and v = D d, all [B, n].

    Args:
        r: the change of rho beyond its linear part; left alone without `change`.
        v: what the transposes carry, None where that is d itself.
        own: d.
        slope: D.
        change: (s*, d) -> rho(s* + d) - rho(s*); None where rho is the identity.
        free: s*.
    """
    if change is not None:
        r.copy_(change(free, own)).addcmul_(slope, own, value=-1)
    if v is not None:
        v.copy_(own * slope)


def pull(
    current: Tensor,
    own: Tensor,
    rest: Tensor | None,
    beta: Tensor,
    slope: Callable[[Tensor], Tensor],
) -> None:
    """Add -beta dC/ds to the current of the outputs, [B, m], in place.

    Args:
        current: of the outputs.
        own: their columns, [B, m]: states, or deviations from `rest`.
        rest: s* of the outputs, [B, m]; None where `own` are states.
        beta: [B, 1].
        slope: s -> dC/ds.
    """
    compiler = _compiler.get()
    if compiler is None:
        pulled(current, own if rest is None else rest + own, beta, slope, out=current)
    else:
        compiler(write_pulled)(current, own, rest, beta, slope)


def write_pulled(
    current: Tensor,
    own: Tensor,
    rest: Tensor | None,
    beta: Tensor,
    slope: Callable[[Tensor], Tensor],
) -> None:
    """Do what `pull` does, without an `out`, which torch.compile takes only if it is contiguous."""
    current.copy_(pulled(current, own if rest is None else rest + own, beta, slope))
