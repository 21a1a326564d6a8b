"""What both engines share: configs, seeds, optimizers, progress and the run log.

Names are imported on first use, so that code that needs no log does not import h5py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.runlog import RunLog, compare_runs, open_run, read_run

__all__ = ["RunLog", "compare_runs", "open_run", "read_run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("bridge.runlog"), name)
