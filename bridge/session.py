"""What makes any training loop resumable: its log, its checkpoints, and an orderly stop.

A loop takes part in four lines. It can say what it needs to go on (`snapshot`, nested dicts and
tensors, see `bridge.checkpoint`), can start from that, and calls `after_step` when a step is whole,
its rows logged:

    with training_session(path, tables=..., config=..., seed=..., resume=resume) as session:
        loop.load(session.start)                          # None for a fresh run
        for step in range(session.step + 1, total + 1):
            session.log.log("metrics", loop.step())
            session.after_step(step, loop.snapshot)

The rows that a resumed run writes and the weights that it ends with are those of a run that was
never stopped, bit for bit, if the snapshot holds all that a step depends on and changes: the
parameters, the optimizer's state, the states of random generators (`checkpoint.random_states`), the
place in the data, and running sums. What is derived from the config is built again.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel

from bridge.checkpoint import Checkpoint, checkpoints, load_checkpoint, save_checkpoint
from bridge.errors import InputError, Stopped
from bridge.runlog import Run, RunLog, open_run, read_run
from bridge.runlog.provenance import provenance
from bridge.runlog.reopening import reopen_run

SECONDS = 60.0
"""Between checkpoints, unless they are asked for by steps."""
_SHARE = 0.02  # of the time that checkpoints may take
_SETTINGS = {
    "threads": "--threads",
    "deterministic": "--deterministic",
    "tf32": "torch.set_float32_matmul_precision",
}


class Session:
    """A run under way: its log, where it starts, and when it is saved; see the module."""

    def __init__(
        self,
        log: RunLog,
        start: Checkpoint | None,
        every: int | None,
        facts: Mapping[str, Any],
        signals: Sequence[int],
        log_option: str = "--out",
    ) -> None:
        """Take over a log; made by `training_session`."""
        self.log = log
        self.start = None if start is None else start.state
        self.step = 0 if start is None else start.step
        self._every = every
        self._facts = dict(facts)
        self._log_option = log_option
        self._signals = signals
        self._due = time.monotonic() + SECONDS

    @property
    def stop_requested(self) -> bool:
        """Whether a signal has asked this process to stop after the step."""
        return bool(self._signals)

    def after_step(self, step: int, snapshot: Callable[[], Any]) -> None:
        """Save a checkpoint if one is due; stop here if a signal has asked for it.

        Args:
            step: steps done; all their rows are logged.
            snapshot: gives what is needed to go on after this step; called only if it is saved.

        Raises:
            Stopped: after SIGTERM or SIGINT, once the checkpoint is written and the log sealed.
            StorageError: the disk is full or fails.
        """
        every = self._every
        due = step % every == 0 if every else time.monotonic() >= self._due
        if not due and not self.stop_requested:
            return
        self._save(step, snapshot())
        if not self._signals:
            return
        name = signal.Signals(self._signals[0]).name
        self.log.status = "stopped"
        self.log.event("stopped", step=step, signal=name)
        self.log.close()
        raise Stopped(
            f"stopped by {name} after step {step}; go on with --resume {self._log_option} "
            f"{self.log.path}"
        )

    def _save(self, step: int, state: Any) -> None:
        began = time.monotonic()
        # The rows that the checkpoint counts must survive whatever the checkpoint survives.
        self.log.sync()
        facts = {**self._facts, "run_id": self.log.run_id, "rows": self.log.rows}
        save_checkpoint(checkpoint_folder(self.log.path), step, state, facts)
        now = time.monotonic()
        self._due = now + max(SECONDS, (now - began) / _SHARE)


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
    log_option: str = "--out",
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[Session]:
    """Open a run's log, new or where its last good checkpoint stands, for the length of a block.

    On leaving the log is sealed: "finished", and the checkpoints, needed no more, are removed; or
    "failed" or "stopped", and they stay.

    Args:
        path: the log.
        tables: see `open_run`, as are config, seed, overwrite, command, dataset, weights, parent.
        resume: go on with the log if there is one, otherwise start it.
        checkpoint_every: steps between checkpoints; None for about one a minute, less often where
            they would take more than 2 % of the time.
        device: where the loop computes; a checkpoint goes on only on the same kind.
        log_option: what the command line writes before the log's path, for the advice on stopping.
        warn: told in a line what may change the last bits of a resumed run's numbers.

    Raises:
        InputError: see `open_run` and `reopen_run`; the log is finished, or this process computes
            with other threads, determinism, TF32 or on another device.
        StorageError: the disk is full or fails.
    """
    path = Path(path)
    # Noted from here on, a signal cannot end the process between the making of a file and its name.
    with _noted_signals() as signals:
        start = None
        if resume and path.exists():
            run = read_run(path)
            _require_resumable(run)
            start = find_start(run, device, warn)
            log = reopen_run(
                path,
                tables=tables,
                config=config,
                rows={} if start is None else start.facts["rows"],
                step=0 if start is None else start.step,
                dataset=dataset,
                weights=weights,
            )
        else:
            log = open_run(
                path,
                tables=tables,
                config=config,
                seed=seed,
                overwrite=overwrite,
                command=command,
                dataset=dataset,
                weights=weights,
                parent=parent,
            )
        with log:
            _remove_others(path, start)
            yield Session(log, start, checkpoint_every, {"device": device}, signals, log_option)
        _remove_others(path, None)


def checkpoint_folder(path: Path) -> Path:
    """Give the folder of a log's checkpoints, which lies beside it."""
    return path.with_name(f"{path.name}.checkpoints")


def find_start(
    run: Run, device: str = "cpu", warn: Callable[[str], None] = lambda text: None
) -> Checkpoint | None:
    """Find the newest good checkpoint of a run whose rows are all in its log.

    Args:
        run: the run, as its log tells it.
        device: where it is to go on.
        warn: told of each checkpoint that cannot be used.

    Returns:
        The checkpoint; None to start from the first step.

    Raises:
        InputError: the newest good checkpoint was made on another device.
    """
    for path in checkpoints(checkpoint_folder(run.path)):
        try:
            found = load_checkpoint(path)
            facts = found.facts
            rows = {str(name): int(n) for name, n in facts["rows"].items()}
            of, made_on = facts["run_id"], facts["device"]
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            warn(f"{error}; an older one is used")
            continue
        if of != run.meta["run_id"]:
            continue
        if any(len(run.tables.get(name, {}).get("step", ())) < n for name, n in rows.items()):
            warn(f"{path}: the log has fewer rows than this checkpoint; an older one is used")
            continue
        if made_on != device:
            raise InputError(
                f"{path}: made on device={made_on}, but this is {device}; the numbers would be "
                f"others, go on with --device {made_on}"
            )
        return found
    return None


@contextlib.contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Note SIGTERM and SIGINT in a list; a second one ends the process as it always did."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number, handler in before.items():
        # What is ignored, as by nohup or a shell's background jobs, stays so.
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_resumable(run: Run) -> None:
    now = provenance()
    if run.status == "finished":
        raise InputError(f"{run.path}: finished; nothing to resume, replace it with --overwrite")
    for name, option in _SETTINGS.items():
        if now[name] != run.meta[name]:
            raise InputError(
                f"{run.path}: written with {name}={run.meta[name]}, not {now[name]}; the numbers "
                f"would be others, set it as it was ({option})"
            )


def _remove_others(path: Path, start: Checkpoint | None) -> None:
    """Remove checkpoints that are not of this run, or newer than its start and so no good."""
    folder = checkpoint_folder(path)
    if start is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for each in folder.iterdir():
        older = each.name.startswith("step-") and each.name <= start.path.name
        if not older:
            shutil.rmtree(each, ignore_errors=True)
