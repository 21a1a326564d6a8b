"""What both engines share: configs, seeds, optimizers, progress and the run log."""

from bridge.runlog import RunLog, compare_runs, open_run

__all__ = ["RunLog", "compare_runs", "open_run"]
