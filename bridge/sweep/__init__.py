"""Many runs of one command: the points of a sweep, their runs, and an index of the results.

All logs are in one folder. Each point has its own log NAME.h5 and, if it saves a model, the folder
NAME next to it. Both names depend only on the point, so that a sweep can be continued, and
extended, in the same folder.
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
