"""Runs as jobs of a Slurm cluster, through submitit."""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import re
import shlex
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.errors import InputError, RunFailed
from bridge.sweep.attend import attend
from bridge.sweep.index import storage
from bridge.sweep.job import AbstractLauncher, Job, thread_variables

FOLDER = "submitit"
"""Folder for the jobs' scripts and output, inside the sweep's folder."""
SLURM, LOCAL = "slurm", "local"

_LISTS = ("setup", "teardown", "srun_args")
# One run is one process; the other parameters are set in this module.
_OURS = {"nodes", "tasks_per_node", "ntasks_per_node", "map_count", "array_parallelism", "num_gpus"}
_OURS |= {"additional_parameters", "signal_delay_s", "stderr_to_stdout", "timeout_min", "name"}
_WHOLE = re.compile(r"\d{1,9}")
_STOPPED = ("CANCELLED", "DEADLINE", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED", "TIMEOUT")
_PATIENCE = 60.0
"""Seconds for cancelled jobs to end; by default Slurm itself kills after half of this."""
_ASK_SECONDS = 5.0
_ROOT = Path(__file__).resolve().parents[2]


def parse_parameters(texts: Sequence[str]) -> dict[str, str]:
    """Parse the "key=value" texts of --slurm; - and _ are equivalent in a key.

    Raises:
        InputError: a key or value is missing, or a key is repeated.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        key = key.replace("-", "_")
        if not equals or not key or not value or not (key + value).isprintable():
            raise InputError(f"--slurm {text!r}: write --slurm key=value, e.g. time=60")
        if key in found:
            raise InputError(f"--slurm {text}: {key} is given twice; give it once")
        found[key] = value
    return found


class Slurm(AbstractLauncher):
    """Starts each run as a job of a cluster.

    Every job is submitted on its own and never requeued. A job that is preempted or reaches its
    time limit ends with its checkpoint, and the sweep can be resumed. submitit passes the command
    to the job in a pickle that only the job reads. The outcome comes back as JSON; this process
    reads no pickle.
    """

    poll_seconds = 0.5

    def __init__(self, folder: Path, parameters: Mapping[str, str], threads: int) -> None:
        """Check the parameters; nothing is written or submitted yet.

        Args:
            folder: of the sweep; the nodes must see it under the same path.
            parameters: for sbatch and submitit, see `parse_parameters`; "cluster" is slurm, or
                local for processes on this machine. `time`, in minutes or in sbatch's format, is
                required: submitit's default would end a job after minutes.
            threads: of each run, and its number of CPUs if cpus_per_task is not given.

        Raises:
            InputError: submitit is not installed, this machine belongs to no cluster, or a
                parameter is unknown or wrong.
        """
        try:
            import submitit
        except ImportError:
            raise InputError(
                "submitit is not installed; install the extra: pip install 'bioplaus[slurm]'"
            ) from None
        given = dict(parameters)
        cluster = given.pop("cluster", SLURM)
        if cluster not in (SLURM, LOCAL):
            raise InputError(f"--slurm cluster={cluster}: use {SLURM} or {LOCAL}")
        if cluster == SLURM and submitit.SlurmExecutor.affinity() <= 0:
            raise InputError(
                "--launcher slurm: there is no srun here; submit from a machine of the cluster, "
                "or use --launcher local"
            )
        self._local = cluster == LOCAL
        self._folder = folder / FOLDER
        self._settings = {"cpus_per_task": threads, **_parameters(given, self._local)}
        self._environment = thread_variables(threads)
        self._executor: Any = None
        self._running: dict[str, tuple[Job, Any, Path]] = {}
        self._stopping: float | None = None
        self._last_query = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        """Cancel active jobs without waiting for them."""
        self.stop(at_once=False)

    @property
    def running(self) -> int:
        """Number of jobs that are waiting or running."""
        return len(self._running)

    def start(self, job: Job) -> None:
        """Submit a job.

        Raises:
            RunFailed: the cluster refuses the job.
            StorageError: the disk is full or fails.
        """
        report = self._folder / f"{job.log.stem}.json"
        with storage(self._folder):
            report.unlink(missing_ok=True)
        arguments = (list(job.command), self._environment, str(report))
        try:
            with storage(self._folder), _as_a_job_needs_it(self._local):
                submitted = self._made().submit(attend, *arguments)
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise RunFailed(f"{job.log.name}: not submitted: {' '.join(lines)[:300]}") from None
        job.status, job.job_id = "submitted", str(submitted.job_id)
        self._running[job.job_id] = (job, submitted, report)

    def stop(self, at_once: bool) -> None:
        """Cancel the jobs; with `at_once`, stop waiting for them."""
        if self._stopping is None:
            self._stopping = time.monotonic() + _PATIENCE
            for _, submitted, _ in self._running.values():
                self._cancel(submitted)
        if at_once:
            self._stopping = time.monotonic()

    def ended(self) -> list[Job]:
        """Give the jobs that have left a report, or have ended without one."""
        now = time.monotonic()
        ask = now - self._last_query >= (_ASK_SECONDS if self._stopping else 10 * _ASK_SECONDS)
        if ask:
            self._last_query = now
        found = []
        for job_id, (job, submitted, report) in list(self._running.items()):
            outcome = None if self._local else _outcome(report)
            if outcome is None:
                state = self._state_at_end(submitted, ask)
                # the report may have arrived in between
                outcome = (state and _outcome(report)) or self._without_report(submitted, state)
            if outcome is None and self._stopping is not None and now >= self._stopping:
                outcome = {"exit_code": -signal.SIGTERM, "said": "", "signalled": True}
            if outcome is not None:
                del self._running[job_id]
                stopped = outcome["signalled"] or self._stopping is not None
                job.end(outcome["exit_code"], outcome["said"], stopped)
                found.append(job)
        return found

    def _made(self) -> Any:
        """The executor, created with the first job because it creates its folder."""
        import submitit

        if self._executor is None:
            cluster = LOCAL if self._local else SLURM
            self._executor = submitit.AutoExecutor(self._folder, cluster=cluster)
            self._executor.update_parameters(**self._settings)
        return self._executor

    def _cancel(self, submitted: Any) -> None:
        with contextlib.suppress(OSError):
            if self._local:
                # cancel() would kill the process that wraps the command one second later
                os.kill(int(submitted.job_id), signal.SIGTERM)
            else:
                submitted.cancel(check=False)

    def _state_at_end(self, submitted: Any, ask: bool) -> str | None:
        """The cluster's name for the state of a job that has ended; None if it has not."""
        if self._local:
            return None if submitted.state == "RUNNING" else submitted.state
        if not ask:
            return None
        state = str(submitted.get_info(mode="standard").get("State") or "UNKNOWN").upper()
        known = (*_STOPPED, "COMPLETED", "FAILED", "OUT_OF_MEMORY")
        return state if state.startswith(known) else None

    def _without_report(self, submitted: Any, state: str | None) -> dict[str, Any] | None:
        if state is None:
            return None
        if state.startswith(_STOPPED):
            return {"exit_code": -signal.SIGTERM, "said": "", "signalled": True}
        text = f"job {submitted.job_id} ended as {state}; see {submitted.paths.stderr}"
        return {"exit_code": 1, "said": text, "signalled": False}


def _parameters(given: Mapping[str, str], local: bool) -> dict[str, Any]:
    """Give the parameters of AutoExecutor; cluster-specific ones are prefixed with its name."""
    import submitit

    generic = submitit.AutoExecutor._typed_parameters()
    legal = (set(generic) | submitit.SlurmExecutor._valid_parameters()) - _OURS
    settings: dict[str, Any] = {"name": "sweep"}
    for key, text in given.items():
        if key not in legal:
            close = difflib.get_close_matches(key, legal, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"use one of {sorted(legal)}"
            raise InputError(f"--slurm {key}={text}: cannot be set; {hint}")
        value: Any = int(text) if _WHOLE.fullmatch(text) else text
        if text in ("true", "false"):
            value = text == "true"
        if key in _LISTS:
            value = [text]
        if key in generic and key != "mem_gb" and not isinstance(value, generic[key]):
            raise InputError(f"--slurm {key}={text}: must be a {generic[key].__name__}")
        if key == "mem_gb":
            try:
                value = float(text)
            except ValueError:
                value = 0.0
            if not 0 < value < 1e6:
                raise InputError(f"--slurm mem_gb={text}: must be a number > 0")
        settings[key if key in generic else f"slurm_{key}"] = value
    if "slurm_time" not in settings:
        raise InputError("--launcher slurm needs --slurm time=MINUTES, the limit of each run")
    if local:
        if not isinstance(settings["slurm_time"], int):
            raise InputError(f"--slurm time={settings['slurm_time']}: give whole minutes here")
        settings["timeout_min"] = settings["slurm_time"]
    settings["slurm_additional_parameters"] = {"no-requeue": True}
    # sbatch may be configured not to pass on the environment
    found = f"export PYTHONPATH={shlex.quote(str(_ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"
    settings["slurm_setup"] = [*settings.get("slurm_setup", ()), found]
    return settings


def _outcome(report: Path) -> dict[str, Any] | None:
    """Read how a job ended; None if it has not reported it."""
    try:
        found = json.loads(report.read_bytes())
        code, stderr, signalled = (found[k] for k in ("exit_code", "said", "signalled"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {"exit_code": int(code), "said": str(stderr), "signalled": bool(signalled)}


@contextlib.contextmanager
def _as_a_job_needs_it(local: bool) -> Iterator[None]:
    """Let child processes find this package, and ignore a terminal's Ctrl-C if they are local.

    This process forwards the Ctrl-C as SIGTERM.
    """
    import submitit

    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if local else None
    try:
        with (
            submitit.helpers.environment_variables(PYTHONPATH=path),
            # sbatch's message is in its error as well
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
