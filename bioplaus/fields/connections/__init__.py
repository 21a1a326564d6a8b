"""Connections between layers, one kind per file."""

from bioplaus.fields.connections.base import Connection, Shape, Wire, units
from bioplaus.fields.connections.conv import Conv
from bioplaus.fields.connections.dense import Dense
from bioplaus.fields.connections.lateral import Lateral
from bioplaus.fields.connections.tied import Tied

__all__ = ["Connection", "Conv", "Dense", "Lateral", "Shape", "Tied", "Wire", "units"]
