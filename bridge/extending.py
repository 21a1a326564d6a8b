"""Changing the planned length of a run: what that changes, and what it does not.

The run continues from its last state or from a checkpoint. If its steps so far are those that a run
of the new length would have taken, it ends like that run, bit for bit. A schedule that depends on
the length would have been different: this is refused, unless the user asks to continue the schedule
over the new length.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from bridge.checkpoint import (
    Checkpoint,
    last_checkpoint,
    load_checkpoint,
    place_checkpoint,
    remove_checkpoints,
)
from bridge.config import Config, decisive_json, flatten
from bridge.config.loading import C
from bridge.errors import InputError
from bridge.ranks import TABLE
from bridge.resuming import checkpoint_folder
from bridge.runlog import Run
from bridge.runlog.keeping import kept_step, take_files
from bridge.schedules import Schedule

EVENT = "extended"
"""Kind of the event that records a new length.

`was` and `now` are in units of `key`, `step` is the number of steps done, `rescheduled` lists the
schedules that differ from those of a run of the new length."""


@dataclass(frozen=True)
class Plan:
    """The planned length of a run.

    Args:
        config: of the run; `config.length` names the key that sets the length.
        steps: the number of steps that one unit of it takes.
        was: the config in the log, if its length differs.
        reschedule: continue schedules over the new length even though they ran over the old one.
        in_passing: whether a table records a step whether or not the run ends there.
        courses: schedules of the run that its config does not know, like `Config.courses`.
    """

    config: Config
    steps: int
    was: Config | None = None
    reschedule: bool = False
    in_passing: Callable[[str, int], bool] = lambda table, step: True
    courses: Callable[[int], Mapping[str, Schedule]] = lambda steps: {}

    @property
    def end(self) -> int:
        """The last step."""
        return self._units(self.config) * self.steps

    def extension(self, path: Path, done: int) -> dict[str, Any]:
        """Give the event that records the change for a run that has done so many steps.

        Raises:
            InputError: the steps done reach the new end, or a schedule has run differently.
        """
        assert self.was is not None
        key, was, now = self.config.length, self._units(self.was), self._units(self.config)
        if self.end <= done:
            raise InputError(
                f"{path}: {key}={now} is no more than it has done, {done / self.steps:g}; "
                f"give {key} more than that, or start another log"
            )
        before = {**self.was.courses(was * self.steps), **self.courses(was * self.steps)}
        after = {**self.config.courses(self.end), **self.courses(self.end)}
        # Most likely they differ at the end.
        differs = [
            name
            for name, course in before.items()
            if any(course(t) != after[name](t) for t in reversed(range(done)))
        ]
        if differs and not self.reschedule:
            raise InputError(
                f"{path}: {differs[0]} depends on where the run ends, and has gone toward "
                f"{key}={was}, not {now}; add --reschedule to take it over the new end from step "
                f"{done + 1} on, or start another log"
            )
        return {"kind": EVENT, "key": key, "was": was, "now": now, "step": done,
                "rescheduled": differs}  # fmt: skip

    def kept_rows(self, run: Run, start: Checkpoint | None) -> dict[str, int]:
        """Count the rows of each table that a run of the new length would also have."""
        rows = {} if start is None else dict(start.facts["rows"])
        for name in rows:
            steps = run.tables[name]["step"][: rows[name]]
            if start is not None and not self.in_passing(name, start.step):
                rows[name] = int(np.searchsorted(steps, start.step, "left"))
        if run.status == "finished" and TABLE in run.tables:
            rows[TABLE] = len(run.tables[TABLE]["step"])  # their files are gone
        return rows

    def _units(self, config: Config) -> int:
        return getattr(config, config.length)


def bring_back(run: Run, plan: Plan) -> None:
    """Put the last state of a finished run back among its checkpoints, if the run may continue.

    Raises:
        InputError: it may not, see `Plan.extension`; or its last state was not kept or is damaged.
        StorageError: the disk is full or fails.
    """
    path, run_id = run.path, run.meta["run_id"]
    folder, step = checkpoint_folder(path), kept_step(path)
    last = last_checkpoint(folder, run_id)
    if step is None and last is None:
        raise InputError(
            f"{path}: finished, and its last state was not kept (an older version wrote the log, "
            "or the weights lay in shards, or its checkpoints were removed); start another log"
        )
    plan.extension(path, last[1] if step is None and last is not None else step or 0)
    if step is None:
        return
    placed = place_checkpoint(
        folder, step, run_id, lambda names, into: take_files(path, names, into)
    )
    try:
        load_checkpoint(placed)
    except InputError:
        remove_checkpoints(folder, run_id)
        raise InputError(
            f"{path}: finished, and its last state is damaged; start another log"
        ) from None


def of_length(settings: C, other: C) -> C:
    """Give a config the length of another one."""
    length = getattr(settings, "length", "")
    return settings.model_copy(update={length: getattr(other, length)} if length else None)


def check_same(path: Path, was: BaseModel, now: BaseModel, fix: str) -> None:
    """Refuse to continue a log with another config.

    Raises:
        InputError: names the log, the first key that differs, and the fix.
    """
    decisive = [decisive_json(each) for each in (was, now)]
    if decisive[0] != decisive[1]:
        old, new = (flatten(json.loads(each)) for each in decisive)
        key = next(k for k in old | new if old.get(k) != new.get(k))
        raise InputError(f"{path}: written with {key}={old.get(key)}, not {new.get(key)}; {fix}")
