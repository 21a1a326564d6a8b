"""What both engines share: configs, seeds, optimizers, progress and the run log."""

from bridge.runlog import RunLog, open_run

__all__ = ["RunLog", "open_run"]
