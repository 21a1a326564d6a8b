"""Vector fields mu(x, s; theta)."""

from bioplaus.fields.base import VectorField
from bioplaus.fields.connections import Connection, Conv, Dense, Lateral, Tied, Wire
from bioplaus.fields.function import FunctionField
from bioplaus.fields.hopfield import energy, hopfield
from bioplaus.fields.layered import Layer, LayeredField
from bioplaus.fields.leaky import LeakyField

__all__ = [
    "Connection",
    "Conv",
    "Dense",
    "FunctionField",
    "Lateral",
    "Layer",
    "LayeredField",
    "LeakyField",
    "Tied",
    "VectorField",
    "Wire",
    "energy",
    "hopfield",
]
