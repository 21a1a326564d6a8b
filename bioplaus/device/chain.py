"""A phase of a chain of dense layers, in the form that the kernels take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bioplaus.costs import CrossEntropy, SquaredError
from bioplaus.fields.connections.base import Wire
from bioplaus.fields.connections.dense import DenseWire
from bioplaus.fields.connections.tied import TiedWire
from bioplaus.fields.layered import LayeredField
from bioplaus.nudging import Confined, Deviations, Layered, Symmetrised

FREE, PLAIN, EXACT = 0, 1, 2
"""Modes: a free phase, a plain nudged phase, one with the Jacobian's asymmetry cancelled."""

Kind = tuple[int, float, float]
"""A form of rho and its two parameters, as `elementwise.value` takes them."""

KINDS: dict[str, Kind] = {
    "linear": (0, 0.0, 0.0),
    "tanh": (1, 0.0, 0.0),
    "sigmoid": (2, 1.0, 0.0),
    "sigmoid-4s-2": (2, 4.0, -2.0),
    "hard-sigmoid": (3, 0.0, 1.0),
    "relu6": (3, 0.0, 6.0),
    "relu": (3, 0.0, float("inf")),
}
COST_CODES = {SquaredError: 1, CrossEntropy: 2}
MODES = {Layered: FREE, Deviations: PLAIN, Symmetrised: EXACT, Confined: EXACT}
MAX_WIDTH = 1024
"""The largest layer that fits into a program, in units."""
MAX_OUTPUTS = 64
"""The most outputs that fit into one block, which the softmax of a cross-entropy needs."""


@dataclass(frozen=True)
class Units:
    """The common properties of all hidden units, or of all outputs.

    Attributes:
        kind: the form of rho.
        box: bounds of the states; infinite if there is no box.
        boxed: whether there is a box.
    """

    kind: Kind
    box: tuple[float, float]
    boxed: bool


class Chain:
    """F of `Layered`, `Deviations` or `Symmetrised` if only layers k - 1 and k + 1 act on layer k.

    Attributes:
        mode: FREE, PLAIN or EXACT.
        sizes: units per layer, output last.
        starts: first column of each layer.
        order: order of the layers in the first sweep.
        first: the layers of the group that the other sweeps settle first.
        base: the part of the currents that does not come from other layers, [B, n].
        origin, slope: s* and D in deviations, [B, n]; None in a free phase. Only the exact rule
            has D.
        size: the scale of ||F||, [B]; None means ||s||.
        hidden, outputs: properties of their units.
        weights: (target, source) -> W, [n_target, n_source].
    """

    def __init__(self, dynamics: Layered) -> None:
        """Convert dynamics; see `unfit` for those that are supported."""
        field, nudge = dynamics.field, dynamics.nudge
        self.dynamics, self.mode = dynamics, MODES[type(dynamics)]
        self.sizes = tuple(here.stop - here.start for here in field.layers)
        self.starts = tuple(here.start for here in field.layers)
        self.order, self.first = dynamics.order, dynamics.groups[0]
        self.base, self.origin, self.slope, self.size = _held(dynamics)
        self.hidden, self.outputs = _units(field, 0), _units(field, len(self.sizes) - 1)
        self.curved = any(not field.is_linear(k) for k in range(len(self.sizes)))
        self.weights = {
            (k, j): _matrix(wire) for k, into in enumerate(field.wires.within) for j, wire in into
        }
        self.cost = 0 if nudge is None else COST_CODES[type(nudge.cost)]
        self.target = None if nudge is None else nudge.target.contiguous()
        self.beta = None if nudge is None else nudge.beta.reshape(-1).contiguous()
        self.curvature = 0.0 if nudge is None else nudge.cost.curvature

    def forward(self, target: int, source: int) -> Tensor | None:
        """W from one layer to another, [n_target, n_source]; None if they are not connected."""
        return self.weights.get((target, source))

    def back(self, target: int, source: int) -> Tensor | None:
        """W^T of the opposite direction, [n_target, n_source], which the exact rule adds."""
        opposite = self.weights.get((source, target))
        return None if opposite is None else opposite.T

    @property
    def uses_forward(self) -> bool:
        """Whether W is used; it is not in the exact rule if rho is the identity."""
        return self.mode != EXACT or self.curved

    @property
    def uses_back(self) -> bool:
        """Whether W^T is used."""
        return self.mode == EXACT


def unfit(dynamics: object) -> str | None:
    """Why the kernels cannot settle a phase; None if they can."""
    if type(dynamics) not in MODES:
        return f"{type(dynamics).__name__} is no phase of layers"
    assert isinstance(dynamics, Layered)
    field, nudge = dynamics.field, dynamics.nudge
    last = len(field.layers) - 1
    if (nudge is None) != (type(dynamics) is Layered):
        return "a nudged phase must be in deviations"
    if nudge is not None and type(nudge.cost) not in COST_CODES:
        return f"cost {nudge.cost.name} is not known to the kernels"
    if field.dtype != torch.float32 or dynamics._drive.dtype != torch.float32:
        return f"the kernels compute in float32, not {field.dtype}"
    if last < 1:
        return "there is no hidden layer"
    for k, into in enumerate(field.wires.within):
        for j, wire in into:
            if abs(k - j) != 1 or sum(j == other for other, _ in into) > 1:
                return f"layer {k + 1} hears layer {j + 1} other than its neighbours once each"
            if _matrix_of(wire) is None:
                return f"connection {wire.connection.name} is not dense"
    if len(field.groups) != 2:
        return "the layers cannot be settled in two halves"
    widest = max(here.stop - here.start for here in field.layers)
    if widest > MAX_WIDTH:
        return f"a layer of {widest} units is wider than {MAX_WIDTH}"
    if field.n_output > MAX_OUTPUTS:
        return f"{field.n_output} outputs are more than {MAX_OUTPUTS}"
    kinds = {_units(field, k) if field.specs[k].rho.name in KINDS else None for k in range(last)}
    if len(kinds) > 1 or None in kinds or field.specs[last].rho.name not in KINDS:
        return "hidden layers differ, or have an activation that is not known to the kernels"
    return None


def _units(field: LayeredField, layer: int) -> Units:
    spec = field.specs[layer]
    box = spec.box or (-float("inf"), float("inf"))
    return Units(KINDS[spec.rho.name], box, spec.box is not None)


def _held(dynamics: Layered) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Base, origin, slope and size of a phase; see `Chain`."""
    if not isinstance(dynamics, Deviations):
        field, drive = dynamics.field, dynamics.drive
        base = drive.new_zeros(len(drive), field.n)
        for k, there in enumerate(field.split(base)):
            if (own := field.base(drive, k)) is not None:
                there.copy_(own)
        return base, None, None, None
    origin = dynamics.origin.contiguous()
    excess = dynamics.excess
    base = torch.zeros_like(origin) if excess is None else excess.contiguous()
    slope = dynamics.slope.contiguous() if isinstance(dynamics, Symmetrised) else None
    return base, origin, slope, dynamics.size.contiguous()


def _matrix_of(wire: Wire) -> Tensor | None:
    if type(wire) is DenseWire:
        return wire.weight
    if type(wire) is TiedWire and type(wire.other) is DenseWire:
        return wire.other.weight.T
    return None


def _matrix(wire: Wire) -> Tensor:
    matrix = _matrix_of(wire)
    assert matrix is not None
    return matrix
