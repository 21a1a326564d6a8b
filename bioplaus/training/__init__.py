"""Training: one loop for the command line and for Python."""

from bioplaus.training.fitting import fit
from bioplaus.training.history import History
from bioplaus.training.loop import PATIENCE, train
from bioplaus.training.records import StepRecord, Summary
from bioplaus.training.run import Run, build

__all__ = ["PATIENCE", "History", "Run", "StepRecord", "Summary", "build", "fit", "train"]
