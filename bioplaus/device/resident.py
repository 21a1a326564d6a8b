"""A phase in one launch: dense layers settle within a single kernel."""

# pyright: reportCallIssue=false
# Triton's launches take arguments that are not in the kernels' signatures.

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bioplaus.device.arguments import (
    EndArguments,
    LimitArguments,
    PhaseArguments,
    ProductArguments,
    UnitArguments,
)
from bioplaus.device.chain import Chain, Units
from bioplaus.device.chain import unfit as unfit_phase
from bioplaus.solvers import AbstractDynamics, AbstractSolver, Solution, Status, Sweeps
from bioplaus.solvers import solve as solve_by_loop
from bioplaus.solvers.entry import recording
from bioplaus.solvers.looking import DIVERGED_AT

if TYPE_CHECKING:
    from bioplaus.device.grid import Buffers

MAX_ROWS = 1024
"""The largest batch; every program checks all of its rows."""
MAX_PAIR = 512
"""Hidden units up to which a network with one hidden layer fits into one program."""
HELD_BYTES = 128 << 10
"""Bytes of weights that one program can hold."""


@dataclass(frozen=True)
class Launch:
    """How a kernel is started.

    Attributes:
        dtype: dtype of the products: float32 or bfloat16; sums are float32.
        rows: rows per block.
        programs: largest number of programs; None means one per multiprocessor.
        resident: whether all half-sweeps are one launch, or each is its own.
        whole: whether a network with one hidden layer runs without a barrier, one program per
            block of rows.
    """

    dtype: torch.dtype = torch.float32
    rows: int = 16
    programs: int | None = None
    resident: bool = True
    whole: bool = True


def unfit(
    dynamics: AbstractDynamics,
    solver: AbstractSolver,
    *,
    rows: int,
    check_every: int = 1,
    verify: bool | None = False,
) -> str | None:
    """Why the kernels cannot do what `solve` is asked for; None if they can."""
    if type(solver) is not Sweeps:
        return f"the kernels sweep, and the solver is {type(solver).__name__}"
    if check_every != 1:
        return f"the kernels look at rows after each sweep, not every {check_every}"
    if verify is not False:
        return "the kernels do not ask whether rows rest at an attractor (verify)"
    if not 1 <= rows <= MAX_ROWS:
        return f"the kernels take 1 to {MAX_ROWS} rows, not {rows}"
    return unfit_phase(dynamics)


def serves(
    dynamics: AbstractDynamics, start: Tensor, solver: AbstractSolver, **limits: Any
) -> bool:
    """Whether a kernel can do a search: on a GPU, with Triton, and if `unfit` returns None."""
    if not start.is_cuda or lacks_triton() is not None:
        return False
    checking = {name: limits[name] for name in ("check_every", "verify")}
    return unfit(dynamics, solver, rows=len(start), **checking) is None


@cache
def lacks_triton() -> str | None:
    """Why no kernel can run here; None if one can."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return "triton is not installed: pip install 'bioplaus[gpu]'"
    return None


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU (TRITON_INTERPRET=1)."""
    from triton.knobs import runtime  # pyright: ignore[reportMissingImports]

    return bool(runtime.interpret)


def solve(
    dynamics: AbstractDynamics, start: Tensor, solver: AbstractSolver, **limits: Any
) -> Solution:
    """`solvers.solve`, by a kernel if possible; rows that it does not settle go to the loop."""
    if recording() or not serves(dynamics, start, solver, **limits):
        return solve_by_loop(dynamics, start, solver, **limits)
    tolerance, most = limits["tolerance"], limits["max_steps"]
    last = tolerance == 0
    found = settle(dynamics, start, tolerance=tolerance, max_steps=most, last=last)
    failed = (found.status != Status.CONVERGED) & (found.n_steps <= most - len(dynamics.order))
    if last or not bool(failed.any()):
        return found
    rows = failed.nonzero()[:, 0]
    again = solve_by_loop(dynamics.take(rows), start[rows], solver, **limits)
    for name in ("s", "residual", "status", "n_steps"):
        getattr(found, name)[rows] = getattr(again, name)
    return found


def settle(
    dynamics: AbstractDynamics,
    start: Tensor,
    *,
    tolerance: float,
    max_steps: int,
    last: bool = True,
    launch: Launch | None = None,
) -> Solution:
    """Make one attempt of `solve` with full sweeps: the same steps, in one launch.

    The host does not wait for the device.

    Args:
        dynamics: a phase for which `unfit` returns None.
        start: initial state or deviation, [B, n]; not changed.
        tolerance: relative residual; 0 takes exactly `max_steps` sweeps.
        max_steps: largest number of sweeps.
        last: whether rows that make no progress go on to the limit; otherwise they end.
        launch: how to start the kernel.
    """
    launch, chain = launch or Launch(), Chain(dynamics)  # pyright: ignore[reportArgumentType]
    n_steps = torch.zeros(len(start), dtype=torch.int32, device=start.device)
    ends = EndArguments(n_steps, start.new_zeros(len(start)), start.new_zeros(len(start)))
    pair = launch.whole and len(chain.sizes) == 2 and max(chain.sizes) <= MAX_PAIR
    reach = 1 if len(chain.sizes) == 2 else 2
    largest = DIVERGED_AT * start.shape[1] ** 0.5
    limits = LimitArguments(
        max_steps, reach, tolerance or -1.0, largest, _fixed(last or not tolerance)
    )
    s = (_run_pair if pair else _run_grid)(chain, start, limits, ends, launch)
    return _solution(s, ends, tolerance, largest)


def _solution(s: Tensor, ends: EndArguments, tolerance: float, largest: float) -> Solution:
    """The solution as `solvers.loop` gives it, without host synchronisation."""
    residual, length = ends.residual, ends.length
    far = residual > tolerance if tolerance > 0 else torch.ones_like(residual, dtype=torch.bool)
    usable = torch.isfinite(residual) & torch.isfinite(length)
    status = torch.where(length > largest, int(Status.DIVERGED), far.to(torch.int8))
    status = torch.where(usable, status, int(Status.NON_FINITE)).to(torch.int8)
    return Solution(s, torch.where(usable, residual, torch.inf), status, ends.n_steps)


def _fixed(value: Any) -> Any:
    """Convert a value to a compile-time constant."""
    import triton.language as tl

    return tl.constexpr(value)


def _arguments(chain: Chain) -> PhaseArguments:
    """The arguments of a phase; missing ones are filled with placeholders that are never read."""
    base = chain.base
    lacking = [
        base if t is None else t for t in (chain.origin, chain.slope, chain.target, chain.beta)
    ]
    return PhaseArguments(
        base,
        *lacking,
        base if chain.size is None else chain.size,
        len(base),
        sum(chain.sizes),
        chain.sizes[-1],
        chain.curvature,
        _fixed(chain.mode),
        _fixed(chain.curved),
        _fixed(chain.cost),
        _units(chain.hidden),
        _units(chain.outputs),
    )


def _units(units: Units) -> UnitArguments:
    return UnitArguments(*(_fixed(each) for each in (*units.kind, units.boxed)), *units.box)


def _how(exact: str) -> ProductArguments:
    """Use TF32 for products if torch allows it, else float32 precision, given by `exact`."""
    precision = "tf32" if torch.backends.cuda.matmul.allow_tf32 else exact
    return ProductArguments(_fixed(interpreted()), _fixed(precision))


def _room(units: int) -> int:
    """The next power of two, at least the minimum of a tensor core."""
    return max(16, 1 << (units - 1).bit_length())


def _padded(matrix: Tensor | None, rows: int, columns: int, like: Tensor) -> Tensor:
    out = like.new_zeros(rows, columns)
    if matrix is not None:
        out[: matrix.shape[0], : matrix.shape[1]] = matrix
    return out


def _run_pair(
    chain: Chain, start: Tensor, limits: LimitArguments, ends: EndArguments, launch: Launch
) -> Tensor:
    from bioplaus.device.pair import Side, settle_pair

    like = torch.empty(0, dtype=launch.dtype, device=start.device)
    rooms = [_room(size) for size in chain.sizes]

    def side(k: int) -> Side:
        other = 1 - k
        W, V = (
            _padded(m if m is None else m.T, rooms[other], rooms[k], like)
            for m in (chain.forward(k, other), chain.back(k, other))
        )
        units = _units(chain.outputs if k == 1 else chain.hidden)
        return Side(chain.starts[k], chain.sizes[k], W, V, units)

    a, b = chain.order
    s = start.clone(memory_format=torch.contiguous_format)
    programs = -(-len(start) // launch.rows)
    settle_pair[(programs,)](
        s,
        _arguments(chain),
        side(a),
        side(b),
        limits,
        ends,
        _how("ieee"),
        BM=launch.rows,
        A=rooms[a],
        B=rooms[b],
        num_warps=8,
    )
    return s


def _run_grid(
    chain: Chain, start: Tensor, limits: LimitArguments, ends: EndArguments, launch: Launch
) -> Tensor:
    from bioplaus.device.grid import Tiles, settle_grid

    block, room = _room(chain.sizes[-1]), _room(max(chain.sizes))
    table = _table(chain, block)
    count, layers = len(table), len(chain.sizes)
    tiles = Tiles(
        torch.tensor(table, dtype=torch.int32).to(start.device),
        _packed(chain, chain.forward, table, block, room, launch.dtype),
        _packed(chain, chain.back, table, block, room, launch.dtype),
        count,
        layers,
    )
    buffers = _buffers(chain, start, count, launch.dtype)
    programs = launch.programs or _multiprocessors(start.device)
    programs = min(programs, count)
    matrices = 2 * (chain.uses_forward + chain.uses_back)
    kept = matrices * room * block * launch.dtype.itemsize
    fixed: dict[str, Any] = {
        "HELD": programs == count and kept <= HELD_BYTES and launch.dtype != torch.float32,
        "RESIDENT": launch.resident,
        "BM": launch.rows,
        "BN": block,
        "K": room,
        "BK": min(room, 64),
        "TILES": _room(count),
        "num_warps": 8,
    }
    if launch.resident and not interpreted():
        fixed["launch_cooperative_grid"] = True
    halves = layers + 2 * limits.most
    given = (_arguments(chain), tiles, buffers, limits, ends, _how("tf32x3"))
    step = halves if launch.resident else 1
    for half in range(0, halves, step):
        settle_grid[(programs,)](*given, half, half + step, **fixed)
    s, first = buffers.even, chain.first
    swapped = (ends.n_steps % 2 == 0)[:, None]
    for k in first:
        here = slice(chain.starts[k], chain.starts[k] + chain.sizes[k])
        s[:, here] = torch.where(swapped, buffers.odd[:, here], s[:, here])
    return s


def _buffers(chain: Chain, start: Tensor, count: int, dtype: torch.dtype) -> Buffers:
    """The initial buffers for the programs of `count` tiles."""
    from bioplaus.device.grid import Buffers

    even, rows = start.clone(memory_format=torch.contiguous_format), len(start)
    signals = _first_signals(chain, start, dtype)
    return Buffers(
        even,
        even.clone(),
        *signals,
        start.new_zeros(count, rows),
        start.new_zeros(2, count, rows),
        start.new_zeros(16, rows),
        torch.zeros(1, dtype=torch.int32, device=start.device),
    )


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def _table(chain: Chain, block: int) -> list[list[int]]:
    """`Tiles.table`; the outputs are one tile."""
    rows = []
    last = len(chain.sizes) - 1
    for k, size in enumerate(chain.sizes):
        near = []
        for j in (k - 1, k + 1):
            there = (k, j) in chain.weights or (j, k) in chain.weights
            near += [chain.starts[j], chain.sizes[j]] if 0 <= j <= last and there else [0, 0]
        about = [int(k not in chain.first), int(k == last), chain.order.index(k)]
        columns = range(0, size, block)
        rows += [[chain.starts[k], size, column, *about, *near] for column in columns]
    return rows


def _packed(
    chain: Chain, matrix: Any, table: list[list[int]], block: int, room: int, dtype: torch.dtype
) -> Tensor:
    """`Tiles.W` or `Tiles.V`."""
    like = torch.empty(0, dtype=dtype, device=chain.base.device)
    parts = []
    for k, size in enumerate(chain.sizes):
        count = -(-size // block)
        both = [_padded(matrix(k, j), count * block, room, like) for j in (k - 1, k + 1)]
        parts.append(torch.stack([m.view(count, block, room).mT for m in both], 1))
    return torch.cat(parts).contiguous()


def _first_signals(chain: Chain, start: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """The signals that W and W^T multiply at the start; deviations start at rest."""
    r, v = start.new_zeros(start.shape, dtype=dtype), start.new_zeros(start.shape, dtype=dtype)
    field = chain.dynamics.field
    if chain.origin is None:
        for k, (own, there) in enumerate(zip(field.split(start), field.split(r), strict=True)):
            there.copy_(field.activity(own, k))
    return [r, v]
