"""The run log: HDF5 that survives a kill at any moment."""

from bridge.runlog.compare import Comparison, compare_runs, parse_tolerances
from bridge.runlog.export import export_run
from bridge.runlog.listing import describe_log, find_logs, list_runs
from bridge.runlog.opening import check_new_log, default_path, open_run
from bridge.runlog.reader import Run, read_run
from bridge.runlog.seal import recover
from bridge.runlog.snapshot import snapshot
from bridge.runlog.summary import comparison_json, comparison_tables
from bridge.runlog.writer import RunLog

__all__ = [
    "Comparison",
    "Run",
    "RunLog",
    "check_new_log",
    "compare_runs",
    "comparison_json",
    "comparison_tables",
    "default_path",
    "describe_log",
    "export_run",
    "find_logs",
    "list_runs",
    "open_run",
    "parse_tolerances",
    "read_run",
    "recover",
    "snapshot",
]
