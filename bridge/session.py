"""What makes any training loop resumable: its log, its checkpoints and a clean stop.

A loop needs four lines for it. It gives the state from which it can continue (`snapshot`, nested
dicts and tensors, see `bridge.checkpoint`), can start from such a state, and calls `after_step`
after each complete step, once its rows are logged:

    with training_session(path, tables=..., config=..., seed=..., resume=resume) as session:
        loop.load(session.start)                          # None for a fresh run
        for step in range(session.step + 1, total + 1):
            session.log.log("metrics", loop.step())
            session.after_step(step, loop.snapshot)

A resumed run writes the same rows and ends with the same weights as a run that never stopped, bit
for bit, if the snapshot holds everything that a step depends on and changes: the parameters, the
optimizer's state, the states of random generators (`checkpoint.random_states`), the position in the
data, and running sums. What follows from the config is rebuilt.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel

from bridge import terminal
from bridge.checkpoint import (
    Checkpoint,
    last_checkpoint,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from bridge.config import config_json
from bridge.distributed import Group
from bridge.errors import Interrupted, LogGone, RunFailed, Stopped, StorageError
from bridge.extending import Plan
from bridge.failures import describe, trace
from bridge.headline import Headline
from bridge.held import Held
from bridge.ranks import (
    TABLE,
    RankLog,
    RankRecord,
    Unwritten,
    merge_ranks,
    open_rank,
    rank_files,
)
from bridge.resuming import (
    checkpoint_folder,
    settings_here,
)
from bridge.runlog import RunLog, read_run, recover
from bridge.runlog.keeping import size_of
from bridge.signals import noted
from bridge.starting import start_log

SECONDS = 60.0
"""Time between checkpoints, unless the user sets a number of steps."""
_SHARE = 0.02  # share of the run time that checkpoints may take
KEPT_BYTES = 256 << 20
"""A last state of more bytes stays next to the run's log instead of in it."""


class Session:
    """A run in progress: its log, where it starts, and when it is saved; see the module."""

    def __init__(
        self,
        log: RunLog,
        start: Checkpoint | None,
        every: int | None,
        facts: Mapping[str, Any],
        signals: Sequence[int],
        log_option: str = "--out",
        group: Group | None = None,
        ranks: RankLog | None = None,
        end: int | None = None,
    ) -> None:
        """Take over a log; called by `training_session`."""
        self.log = log
        self.start = None if start is None else start.state
        self.step = 0 if start is None else start.step
        self._every = every
        self._facts = dict(facts)
        self._log_option = log_option
        self._signals = signals
        self._group = group or Group()
        self._ranks = ranks
        self._end = end
        self._due = time.monotonic() + SECONDS
        self._held = Held()
        self.log.defers_loss = True
        self._saved = self.step

    def after_step(self, step: int, snapshot: Callable[[], Any] | None) -> None:
        """Save a checkpoint if one is due; stop here if a signal has asked for it.

        A signal to one process stops all of them after the same step.

        Args:
            step: steps done, whose rows are all logged.
            snapshot: returns the state to continue from. It is called after each step, so it must
                be cheap: references to tensors, not copies, see `bridge.held`. None if there is no
                such state: the run then resumes from its start.

        Raises:
            Stopped: after a signal of `bridge.signals.STOPPING`, once the checkpoint is written
                and the log sealed.
            LogGone: the log was deleted, moved or replaced.
            StorageError: the disk is full or fails.
        """
        if self._ranks is not None:
            self._ranks.step(step)
        stop = self._group.largest(self._signals[0] if self._signals else 0)
        every = self._every
        due = step % every == 0 if every else time.monotonic() >= self._due
        due = due or step == self._end
        self.step = step
        if self._group.rank == 0 and snapshot is not None:
            state, rows = snapshot(), self.log.rows
            if due or stop:
                self._save(step, state, rows)
            self._held.hold(step, state, rows)
        if self.log.gone is not None:
            raise self.log.gone
        if stop:
            self._stop(step, signal.Signals(stop).name)

    def rescue(self) -> None:
        """Save the newest valid state after a failure; an error in saving does not hide it."""
        whole = self._held.newest()
        if self._group.rank == 0 and whole is not None and whole.step > self._saved:
            with contextlib.suppress(StorageError):
                self._save(whole.step, whole.state, whole.rows)

    @property
    def stopping(self) -> bool:
        """Whether a signal has asked this process to stop, which the next `after_step` does."""
        return bool(self._signals)

    @property
    def saved(self) -> int:
        """The step of the newest checkpoint; 0 if there is none."""
        return self._saved

    def _save(self, step: int, state: Any, rows: Mapping[str, int]) -> None:
        began = time.monotonic()
        # The rows that a checkpoint counts must be as safe on the disk as the checkpoint itself.
        if self.log.gone is None:
            self.log.sync()
        facts = {**self._facts, "end": self._end, "run_id": self.log.run_id, "rows": dict(rows)}
        save_checkpoint(checkpoint_folder(self.log.path), step, state, facts)
        self._saved = step
        now = time.monotonic()
        self._due = now + max(SECONDS, (now - began) / _SHARE)

    @property
    def advice(self) -> str:
        """Say how to continue the run."""
        return f"go on with --resume {self._log_option} {self.log.path}"

    def _stop(self, step: int, name: str) -> None:
        for log in (self.log, *([] if self._ranks is None else [self._ranks.log])):
            log.status = "stopped"
            log.event("stopped", step=step, signal=name)
            log.close()
        self._group.all(True)  # torchrun ends all processes once one has ended
        if self._group.rank:
            raise Stopped  # the first process reports it
        kind = Interrupted if name == "SIGINT" else Stopped
        raise kind(f"stopped by {name} after step {step}; {self.advice}")


@contextlib.contextmanager
def training_session(
    path: Path | str,
    *,
    tables: Mapping[str, type],
    config: BaseModel | Mapping[str, Any],
    seed: int,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_every: int | None = None,
    device: str = "cpu",
    command: str | Sequence[str] | None = None,
    dataset: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    parent: str | None = None,
    headline: Headline | None = None,
    log_option: str = "--out",
    group: Group | None = None,
    ranks: bool = False,
    processes: int | None = None,
    plan: Plan | None = None,
    warn: Callable[[str], None] = lambda text: None,
    signals: Sequence[int] | None = None,
) -> Iterator[Session]:
    """Open a run's log, new or at its last valid checkpoint, for the length of a block.

    On leaving, the log is sealed. As "finished", it takes in the last state and the checkpoints are
    removed. As "failed" or "stopped", they stay. An error in the block is reported in one line,
    with the line of user code that raised it, and a checkpoint of the last complete step is
    written. In a group of processes the first one writes the log and the checkpoints, and all must
    have the same snapshot; the log of the others accepts everything and writes nothing.

    Args:
        path: the log.
        tables: see `open_run`, as are config, seed, overwrite, command, dataset, weights, parent
            and headline.
        resume: continue the log if there is one, otherwise start it.
        checkpoint_every: steps between checkpoints; None for about one per minute, fewer if they
            would take more than 2 % of the time.
        device: where the loop computes; a checkpoint continues only on the same kind.
        log_option: the option before the log's path on the command line, for the advice on
            stopping.
        group: the processes of the run; None means this one alone.
        ranks: add a table with the time use of each process, see `bridge.ranks`.
        processes: their number, if results depend on it; a checkpoint continues only with the same.
        plan: the planned length of the run, if it may change; see `bridge.extending`.
        warn: receives one line about what may change the last bits of a resumed run's results.
        signals: a list to which the caller adds signals as they come, for several sessions at once;
            None lets this session note its own.

    Raises:
        InputError: see `open_run` and `reopen_run`; the log is finished, or this process has other
            settings of threads, determinism or TF32, another device or another number of processes.
        StorageError: the disk is full or fails.
        RunFailed: another process has ended, or something in the block has failed.
        Stopped: a signal or Ctrl-C came; a checkpoint is written.
    """
    path, group = Path(path), group or Group()
    tables = {**tables, **({TABLE: RankRecord} if ranks else {})}
    of_run: dict[str, Any] = {"tables": tables, "config": config}
    of_run |= {"dataset": dataset, "weights": weights}
    new: dict[str, Any] = {"seed": seed, "overwrite": overwrite, "command": command}
    new |= {"parent": parent, "headline": headline}
    facts = {"device": device, "processes": processes}
    # From here on a signal cannot end the process between creating a file and naming it.
    with _watched(group, signals) as signals:
        if group.rank == 0:
            with group.telling() as message:
                log, start = start_log(path, resume, of_run, new, facts, warn, plan)
                message |= {"run_id": log.run_id, "start": start and str(start.path)}
        else:
            message = group.hear()
            start = message["start"] and load_checkpoint(Path(message["start"]))
            log: Any = Unwritten(path, message["run_id"])
        about = {"config": json.loads(config_json(config)), "seed": seed, "parent": parent}
        saved = {**facts, "run": {**about, **settings_here()}}
        given = (log, start, checkpoint_every, saved, signals, log_option, group)
        with _explaining_failure() as failing, log, contextlib.ExitStack() as files:
            mine = None
            if ranks:
                done = start.step if start else 0
                mine = open_rank(path, group, log.run_id, done, config, seed, overwrite)
                files.enter_context(mine.log)
            session = Session(*given, mine, plan and plan.end)
            failing.append(session)
            with _rescuing(session):
                yield session
            files.close()
            if ranks:
                group.all(True)  # every file is sealed
                if group.rank == 0:
                    merge_ranks(log)
            log.status = "finished"
            if group.rank == 0:
                log.keep = _to_keep(path, log.run_id)
        if group.rank == 0:
            _remove_parts(path, log.run_id)


@contextlib.contextmanager
def _rescuing(session: Session) -> Iterator[None]:
    """Save the last complete step if the block fails, and record the failure in the log."""
    try:
        yield
    except Stopped:
        raise
    except BaseException as error:
        session.rescue()
        if not _is_own(error):
            with contextlib.suppress(StorageError):
                session.log.event("traceback", text=trace(error))
        raise


@contextlib.contextmanager
def _explaining_failure() -> Iterator[list[Session]]:
    """Turn an error that ends a run's block into one line: what failed, where, and how to go on.

    Yields a list that receives the session once it is open.
    """
    session: list[Session] = []
    try:
        yield session
    except LogGone as error:
        session[0].rescue()  # it may have been the last step
        raise LogGone(f"{error}; {_kept(session[0])}") from None
    except (Stopped, RunFailed, StorageError):
        raise
    except BaseException as error:
        if not session:
            raise
        _explain(error, session[0])


def _explain(error: BaseException, session: Session) -> NoReturn:
    at = f"step {session.step + 1}"
    if isinstance(error, KeyboardInterrupt):
        if not session.saved:
            raise error
        raise Interrupted(f"interrupted in {at}; {_kept(session)}") from None
    if _is_own(error):
        error.add_note(_kept(session))
        raise error
    raise RunFailed(
        f"{describe(error)}; the run stopped in {at}; {_kept(session)}; the traceback is among "
        f"the events of runs show {session.log.path}"
    ) from error


def _kept(session: Session) -> str:
    kept = f"a checkpoint of step {n} is written" if (n := session.saved) else "no step was whole"
    return f"{kept}; {session.advice}"


def _is_own(error: BaseException) -> bool:
    """Whether it is one of this program's errors, whose messages say what to do."""
    return type(error).__module__.partition(".")[0] in ("bridge", "bioplaus", "nlhf")


def tidy(path: Path) -> None:
    """Complete a finished run whose process was killed: seal its log, remove the other files.

    Raises:
        InputError: there is no log, or it is damaged.
        StorageError: the disk is full or fails.
    """
    run_id = read_run(path).meta["run_id"]
    recover(path, _to_keep(path, run_id))
    _remove_parts(path, run_id)


def _to_keep(path: Path, run_id: str) -> tuple[Path, int] | None:
    """Find the last state of a finished run for its sealed log, and its step."""
    last = last_checkpoint(checkpoint_folder(path), run_id)
    return None if last is None or size_of(last[0]) > KEPT_BYTES else last


def _remove_parts(path: Path, run_id: str) -> None:
    folder = checkpoint_folder(path)
    last, kept = last_checkpoint(folder, run_id), _to_keep(path, run_id)
    remove_checkpoints(folder, run_id, spared=last[0] if last and kept is None else None)
    for each in rank_files(path, run_id):
        each.unlink(missing_ok=True)


@contextlib.contextmanager
def _watched(group: Group, signals: Sequence[int] | None) -> Iterator[Sequence[int]]:
    """Give the received signals; note them, and protect the screen, unless the caller does."""
    if signals is not None:
        yield signals
        return
    with _noted_signals(group) as found, terminal.unwaiting():
        yield found


@contextlib.contextmanager
def _noted_signals(group: Group) -> Iterator[list[int]]:
    """Note the signals that ask to stop in a list; a second Ctrl-C interrupts the step.

    A second SIGTERM does not: Slurm, srun and others that forward signals send it more than once.
    In a group no second signal does: torchrun forwards a Ctrl-C that the terminal has sent to all
    processes.
    """

    def give_in(number: int, before: dict[int, Any]) -> None:
        if number == signal.SIGINT and group.size == 1:
            signal.signal(number, before[number])

    # When torchrun ends a group, each process still has to print its last message.
    with noted(give_in, restore=group.size == 1) as signals:
        yield signals
