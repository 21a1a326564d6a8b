"""A second simulator for the same network."""

from bioplaus.engines.brian2 import Course, Trajectory, simulate
from bioplaus.engines.plasticity import Plasticity, integrate_rule
from bioplaus.engines.solver import SERVED, Brian2

__all__ = ["SERVED", "Brian2", "Course", "Plasticity", "Trajectory", "integrate_rule", "simulate"]
