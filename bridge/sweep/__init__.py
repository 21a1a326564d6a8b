"""Many runs of one command: the points of a sweep, their runs, and an index of what came out.

Each point has a log of its own in one folder, NAME.h5, and the model that it saves, if it saves
one, beside it in NAME; both are named after the point alone, so that a sweep can be gone on with,
and made larger, in the same folder.
"""

from bridge.sweep.index import INDEX
from bridge.sweep.job import AbstractLauncher, Job
from bridge.sweep.jobs import run_jobs
from bridge.sweep.lock import require_unlocked
from bridge.sweep.points import MAX_RUNS, parse_seeds, parse_sweep, point_name, points
from bridge.sweep.processes import Processes
from bridge.sweep.rebuild import rebuild_index

__all__ = [
    "INDEX",
    "MAX_RUNS",
    "AbstractLauncher",
    "Job",
    "Processes",
    "parse_seeds",
    "parse_sweep",
    "point_name",
    "points",
    "rebuild_index",
    "require_unlocked",
    "run_jobs",
]
