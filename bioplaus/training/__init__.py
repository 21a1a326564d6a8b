"""Training: one loop, shared by the command line and Python."""

from bioplaus.training.fitting import fit
from bioplaus.training.history import History
from bioplaus.training.loop import PATIENCE, train
from bioplaus.training.objective import AbstractObjective, Supervised
from bioplaus.training.records import StepRecord, Summary
from bioplaus.training.run import Run, build

__all__ = [
    "PATIENCE",
    "AbstractObjective",
    "History",
    "Run",
    "StepRecord",
    "Summary",
    "Supervised",
    "build",
    "fit",
    "train",
]
