"""One file per process with its time use; merged into the run's log at the end.

The first process writes the run's log RUN.h5. Every process, including the first, writes
RUN.rankN.h5. When an interrupted run is resumed or replaced, so are these files.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel

from bridge.distributed import Group
from bridge.errors import InputError
from bridge.runlog import Run, RunLog, open_run, read_run
from bridge.runlog.reopening import reopen_run

TABLE = "ranks"


@dataclass(frozen=True)
class RankRecord:
    """One step of one process: seconds spent computing, and in exchanges with the others."""

    step: int
    rank: int
    computed: float
    waited: float


class Unwritten:
    """A run's log in a process that does not write it: accepts everything, keeps nothing."""

    def __init__(self, path: Path, run_id: str) -> None:
        """Set the path of the log that another process writes."""
        self.path, self.run_id = path, run_id
        self.status = "running"
        self.defers_loss, self.gone = False, None

    def log(self, table: str, record: Any) -> None:
        """Do nothing."""

    def event(self, kind: str, **data: Any) -> None:
        """Do nothing."""

    def save_weights(self, step: int, weights: Mapping[str, Any]) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing."""


class RankLog:
    """One process's file, open for writing."""

    def __init__(self, log: RunLog, group: Group) -> None:
        """Take over a file; called by `open_rank`."""
        self.log = log
        self._group = group
        self._before = (time.perf_counter(), group.waited)

    def step(self, step: int) -> None:
        """Record a completed step."""
        now, waited = time.perf_counter(), self._group.waited
        together = waited - self._before[1]
        alone = now - self._before[0] - together
        self._before = (now, waited)
        self.log.log(TABLE, RankRecord(step, self._group.rank, alone, together))


def open_rank(
    path: Path,
    group: Group,
    run_id: str,
    step: int,
    config: BaseModel | Mapping[str, Any],
    seed: int,
    overwrite: bool = False,
) -> RankLog:
    """Open this process's file, new or where the run continues.

    Args:
        path: the run's log.
        group: the processes.
        run_id: of the run.
        step: steps done when the run continues; 0 for a new run.
        config: of the run.
        seed: of the run.
        overwrite: replace the file of another run.

    Raises:
        InputError: there is another file of that name.
        StorageError: the disk is full or fails.
    """
    mine = path.with_name(f"{path.stem}.rank{group.rank}.h5")
    tables = {TABLE: RankRecord}
    found = _rank_file(mine) if mine.exists() else None
    if found is not None and found.meta["parent"] == run_id and step:
        rows = int(np.searchsorted(found.table(TABLE)["step"], step, "right"))
        # Its config stays the same even if the run has become longer.
        log = reopen_run(mine, tables=tables, config=found.config, rows={TABLE: rows}, step=step)
    else:
        log = open_run(
            mine,
            tables=tables,
            config=config,
            seed=seed,
            overwrite=found is not None and (overwrite or found.meta["parent"] == run_id),
            parent=run_id,
        )
    return RankLog(log, group)


def merge_ranks(log: RunLog) -> None:
    """Add the rows of all processes to the run's log, sorted by step and rank."""
    tables = [run.table(TABLE) for run in rank_files(log.path, log.run_id).values()]
    names = [each.name for each in fields(RankRecord)]
    columns = [np.concatenate([table[name] for table in tables]).tolist() for name in names]
    for row in sorted(zip(*columns, strict=True)):
        log.log(TABLE, RankRecord(*row))


def rank_files(path: Path, run_id: str) -> dict[Path, Run]:
    """Find the files of a run's processes next to its log."""
    name = re.compile(rf"{re.escape(path.stem)}\.rank\d+\.h5")
    found = {}
    for each in sorted(path.parent.iterdir()):
        if name.fullmatch(each.name):
            with contextlib.suppress(InputError):
                run = read_run(each)
                if run.meta["parent"] == run_id and TABLE in run.tables:
                    found[each] = run
    return found


def _rank_file(path: Path) -> Run | None:
    """Read a process's file, of this run or another one; None if it is something else."""
    with contextlib.suppress(InputError):
        run = read_run(path)
        if list(run.tables)[:1] == [TABLE]:
            return run
    return None
