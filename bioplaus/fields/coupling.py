"""How the units of a field act on one another, which decides what an estimator reads."""

from __future__ import annotations

from dataclasses import dataclass

from bioplaus.fields.base import VectorField
from bioplaus.fields.connections.tied import TiedWire
from bioplaus.fields.layered import LayeredField


@dataclass(frozen=True)
class Coupling:
    """What is known of a field's Jacobian and of its feedback weights.

    Each reason continues "has no effect ".

    Attributes:
        n: number of units; None if it is not known yet.
        alone: why no unit acts on another, so that J_s = -1; None if some may.
        unpaired: why no feedback weight has a feedforward partner; None if one may have.
        symmetric: why J_s is symmetric, whatever the weights; None if it need not be.
    """

    n: int | None = None
    alone: str | None = None
    unpaired: str | None = None
    symmetric: str | None = None


def coupling_of(field: VectorField) -> Coupling:
    """How the units of a field act on one another, as far as its connections tell."""
    lone = f"on {field!r}, which has no feedback weights with feedforward partners"
    unpaired = None if field.partners() else lone
    if not isinstance(field, LayeredField):
        return Coupling(field.n, unpaired=unpaired)
    within = [wire for into in field.wires.within for _, wire in into]
    tied = {wire.other.connection.name for wire in within if isinstance(wire, TiedWire)}
    both_ways = all(isinstance(w, TiedWire) or w.connection.name in tied for w in within)
    plain = all(layer.rho.name == "linear" and layer.box is None for layer in field.specs)
    return Coupling(
        field.n,
        alone=None if within else f"on {field!r}, in which no unit acts on another",
        unpaired=unpaired,
        symmetric=f"on {field!r}, whose Jacobian is symmetric" if plain and both_ways else None,
    )
