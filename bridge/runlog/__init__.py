"""The run log: HDF5 that survives a kill at any moment."""

from bridge.runlog.listing import describe, find_logs, list_runs
from bridge.runlog.opening import check_new_log, default_path, open_run
from bridge.runlog.reader import Run, read_run
from bridge.runlog.seal import recover
from bridge.runlog.writer import RunLog

__all__ = [
    "Run",
    "RunLog",
    "check_new_log",
    "default_path",
    "describe",
    "find_logs",
    "list_runs",
    "open_run",
    "read_run",
    "recover",
]
