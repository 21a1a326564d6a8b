"""A second simulator for the same network."""

from bioplaus.engines.brian2 import Course, Trajectory, simulate
from bioplaus.engines.plasticity import Plasticity, integrate_rule
from bioplaus.engines.solver import SERVED, Brian2, no_circuit
from bioplaus.engines.spiking import Population, Spiking, spiking_estimate

__all__ = [
    "SERVED",
    "Brian2",
    "Course",
    "Plasticity",
    "Population",
    "Spiking",
    "Trajectory",
    "integrate_rule",
    "no_circuit",
    "simulate",
    "spiking_estimate",
]
