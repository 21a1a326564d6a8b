"""Send the rows of `fit` to its history, to the callbacks and, if there is one, to a log.

Modules that need h5py are imported only if there is a log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bioplaus.config import FitConfig
from bioplaus.contraction import Act
from bioplaus.errors import InputError
from bioplaus.training.history import History
from bioplaus.training.origins import code_of
from bioplaus.training.run import Run
from bridge.card import EVENT as DATA
from bridge.config.base import LOADING
from bridge.errors import Interrupted, RunFailed, Stopped
from bridge.signals import noted
from bridge.usercode import record_origins

AfterStep = Callable[[int, Callable[[], Any]], None]
TABLES = {"epochs": "rows", "metrics": "steps", "gradients": "checks"}
"""Maps the tables of a log to the attributes of a history."""


class Recording:
    """Receives the records of the training loop.

    Attributes:
        finished: whether the run had already ended, so that there is nothing to do.
    """

    def __init__(
        self,
        run: Run,
        history: History,
        callbacks: Sequence[Callable[[Any], Any]],
        options: Mapping[str, Any],
    ) -> None:
        """Set the destinations of the records.

        Args:
            run: the run to train.
            history: receives every row.
            callbacks: called with each epoch's row.
            options: resume, reschedule, overwrite and checkpoint_every, as in `fit`.
        """
        self.run, self.history, self.callbacks, self.options = run, history, callbacks, options
        self.finished = False
        self._log: Any = None

    def opened(self) -> contextlib.AbstractContextManager[tuple[Any, AfterStep]]:
        """Open the log for a block; yield the snapshot to start from and `after_step`."""
        return _unlogged() if self.history.path is None else self._logged(self.history.path)

    def on_step(self, row: Any) -> None:
        self.history.steps.append(row)
        self._write("metrics", row)

    def on_check(self, row: object) -> None:
        self.history.checks.append(row)
        self._write("gradients", row)

    def on_act(self, act: Act) -> None:
        self.history.acts.append(act)
        if self._log is not None:
            self._log.event("contraction", **vars(act))

    def on_epoch(self, row: Any) -> None:
        self.history.rows.append(row)
        self._write("epochs", row)
        if self._log is not None:
            self._log.save_weights(row.step, self.run.field.parameters)
        for callback in self.callbacks:
            callback(row)

    def warn(self, text: str) -> None:
        self.history.warnings.append(text)
        if self._log is not None:
            self._log.event("warning", text=text)

    def note(self, text: str) -> None:
        """Write a note to the log only."""
        if self._log is not None:
            self._log.event("program", text=text)

    def end(self, summary: object) -> None:
        """Write the summary to the log."""
        if self._log is not None:
            self._log.event("summary", of={**vars(summary), "seed": self.run.config.seed})

    def _write(self, table: str, row: object) -> None:
        if self._log is not None:
            self._log.log(table, row)

    @contextlib.contextmanager
    def _logged(self, path: Path) -> Iterator[tuple[Any, AfterStep]]:
        from bridge.extending import Plan
        from bridge.session import training_session

        run, config, options = self.run, self.run.config, self.options
        with _in_python(path):
            was, events = self._before(path) if options["resume"] else (None, ())
            if self.finished:
                yield None, lambda step, snapshot: None
                return
            steps = -(-len(run.dataset.train) // config.batch_size)
            with training_session(
                path,
                tables=self._tables(),
                config=config,
                seed=config.seed,
                resume=options["resume"],
                overwrite=options["overwrite"],
                checkpoint_every=options["checkpoint_every"],
                device=run.device.type,
                dataset={"name": run.dataset.name, "sha256": run.dataset.sha256},
                weights=run.field.parameters,
                headline=run.objective.headline(run),
                plan=Plan(config, steps, was, options["reschedule"], courses=run.objective.courses),
                warn=self.history.warnings.append,
            ) as session:
                self._log = session.log
                if session.start is None:
                    session.log.event(DATA, **run.card.as_event())
                self._forget_after(session.step)
                origins = code_of(run.field, run.estimator, run.objective)
                record_origins(origins, events, session.log.event, self.warn)
                yield session.start, session.after_step
            self._log = None

    def _tables(self) -> dict[str, type]:
        tables: dict[str, type] = {"metrics": self.run.step_record, "epochs": self.run.epoch_record}
        if self.run.config.check_gradients_every:
            tables["gradients"] = self.run.check_record
        return tables

    def _before(self, path: Path) -> tuple[FitConfig | None, Sequence[Mapping[str, Any]]]:
        """The config of the run to resume, if its length differs, and its events.

        The rows of that run are added to the history. If it has finished at this length, its
        weights are copied to the field.
        """
        from bridge.extending import check_same, of_length
        from bridge.resuming import logged
        from bridge.runlog import read_run
        from bridge.session import tidy

        config = self.run.config
        assert isinstance(config, FitConfig)
        found = logged(path, self.history.warnings.append)
        if found is None:
            return None, ()
        try:
            was = FitConfig.model_validate(found[0], context={LOADING: True})
        except (TypeError, ValueError):
            raise InputError(f"{path}: is no log of fit; give another out=FILE.h5") from None
        check_same(path, was, of_length(config, was), "give what it was, or another out=FILE.h5")
        longer = of_length(config, was) != config
        if not path.exists():
            return (was if longer else None), ()
        before = read_run(path)
        for table, kind in self._tables().items():
            columns = before.tables.get(table, {})
            rows = zip(*(columns[f.name].tolist() for f in dataclasses.fields(kind)), strict=True)
            getattr(self.history, TABLES[table]).extend(kind(*row) for row in rows)
        self.history.acts += _acts(before.events)
        if before.status == "finished" and not longer:
            tidy(path)
            self.finished = True
            for name, values in before.weights()[1].items():
                self.run.field.parameters[name].copy_(torch.from_numpy(values))
        return (was if longer else None), before.events

    def _forget_after(self, step: int) -> None:
        """Drop the rows of steps that the run repeats."""
        for name in TABLES.values():
            rows = getattr(self.history, name)
            rows[:] = [row for row in rows if row.step <= step]
        self.history.acts[:] = [act for act in self.history.acts if act.step <= step]


def _acts(events: Iterable[Mapping[str, Any]]) -> list[Act]:
    names = [f.name for f in dataclasses.fields(Act)]
    acts = (event for event in events if event.get("kind") == "contraction")
    return [Act(**{name: event[name] for name in names}) for event in acts]


@contextlib.contextmanager
def _unlogged() -> Iterator[tuple[Any, AfterStep]]:
    """Without a log: Ctrl-C takes effect after the current step, a second one at once."""

    def give_in(number: int, before: dict[int, Any]) -> None:
        signal.signal(number, before[number])

    with noted(give_in, signals=(signal.SIGINT,)) as pressed:

        def after_step(step: int, snapshot: Callable[[], Any]) -> None:
            if pressed:
                raise Interrupted(f"stopped by SIGINT after step {step}")

        yield None, after_step


@contextlib.contextmanager
def _in_python(path: Path) -> Iterator[None]:
    """Rephrase messages about options of the command line as arguments of `fit`."""
    words = {
        f"--resume --out {path}": "resume=True",
        "--reschedule": "reschedule=True",
        "another --out": "another out=FILE.h5",
        "--overwrite": "overwrite=True",
        "--resume": "resume=True",
        "(--threads)": "(torch.set_num_threads)",
        "(--deterministic)": "(torch.use_deterministic_algorithms)",
    }
    try:
        yield
    except (InputError, RunFailed, Stopped) as error:
        text = str(error)
        for option, argument in words.items():
            text = text.replace(option, argument)
        if text == str(error):
            raise
        raise type(error)(text) from error.__cause__
