"""`--seeds` and `--sweep`: run a training command once for each of many points."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bioplaus_cli.folders import check_new_folder
from bioplaus_cli.options import SweepOptions
from bridge.console import kept_in, print_json
from bridge.invocation import program

if TYPE_CHECKING:
    from pydantic import BaseModel

    from bridge.sweep import AbstractLauncher, Job

LOG_ONLY = {"out": ".h5"}
LOG_AND_MODEL = {"out": ".h5", "save": ""}
"""Options that set where a run writes, with the extensions; "" is that of the saved model."""


def sweep(
    model: type[BaseModel],
    toml: Path | None,
    flags: Mapping[str, object],
    options: SweepOptions,
    places: Mapping[str, str] = LOG_ONLY,
    in_one: Callable[[Mapping[Path, Mapping[str, str]]], AbstractLauncher] | None = None,
) -> bool:
    """Run a training command once for each point of --seeds and --sweep, if they are given.

    Every config is checked before the first run starts. A run is the same command without those
    options, with the point's values as --set, and with --resume if the sweep has it. In the folder
    at --out, the point NAME has the log NAME.h5 and, if it saves a model, the folder NAME.

    Args:
        model: the class of the command's config.
        toml: a config file.
        flags: see `load_config`.
        options: of the command line: seeds, sweeps, jobs, launcher, slurm, and those of `prepare`;
            `out` is the folder.
        places: the options that tell each run where to write, see LOG_AND_MODEL.
        in_one: makes the launcher for --together, which runs all points in this process, from the
            values of each unfinished point, by its log.

    Returns:
        Whether there was anything to sweep.

    Raises:
        InputError: a mistake in a point or its config, or a log that exists or has another config.
        Stopped, RunFailed, StorageError: see `bridge.sweep.run_jobs`.
    """
    _check_options(options, places)
    if options["seeds"] is None and not options["sweeps"]:
        return False
    from bridge.runlog import default_path
    from bridge.sweep import points, require_unlocked, run_jobs

    context = click.get_current_context()
    command = context.info_name or ""
    plan = points(options["seeds"], options["sweeps"])
    _require_unset(plan[0], flags, options)
    folder = options["out"] or default_path(command).with_suffix("")
    _check_folder(folder)
    require_unlocked(folder)
    again = _arguments(context, leave_out=(*_OF_SWEEPS, *places))
    jobs = [_job(model, toml, flags, options, point, folder, places, again) for point in plan]
    if options.get("together") and in_one is not None:
        waiting = zip(jobs, plan, strict=True)
        launcher = in_one({job.log: p for job, p in waiting if job.status != "finished"})
        parallel = len(jobs)
    else:
        launcher, parallel = _launcher(options, folder, len(jobs))
    silent = options["quiet"] or options["as_json"]
    ended = [job for job in jobs if job.status == "finished"]

    def on_end(job: Job) -> None:
        ended.append(job)
        if not silent:
            message = f": {job.message}" if job.message else ""
            mark = ", NOT CONVERGED" if job.summary.get("converged") is False else ""
            click.echo(f"{len(ended)}/{len(jobs)} {job.log.stem} {job.status}{mark}{message}")

    kept_in(folder)
    run_jobs(jobs, folder, command, launcher, parallel=parallel, on_end=on_end)
    _tell(jobs, folder, options)
    return True


def _require_unset(keys: Iterable[str], flags: Mapping[str, object], options: SweepOptions) -> None:
    """Refuse keys that are swept and also given one value."""
    given = {key for key, value in flags.items() if value is not None and value != ()}
    given |= {text.partition("=")[0].strip() for text in options["sets"]}
    for key in keys:
        if key in given:
            raise click.UsageError(f"{key} is swept and given one value; give one of the two")


def _tell(jobs: Sequence[Job], folder: Path, options: SweepOptions) -> None:
    """Print where the runs and their index are."""
    from bridge.sweep import INDEX

    if options["as_json"]:
        runs = [
            {
                "log": str(job.log),
                "saved": None if job.saved is None else str(job.saved),
                "point": job.point,
                "summary": job.summary,
            }
            for job in jobs
        ]
        print_json({"index": str(folder / f"{INDEX}.json"), "runs": runs})
    elif not options["quiet"]:
        logs = folder / "*.h5"
        click.echo(f"index: {folder / INDEX}.csv\nlook at them: {program()} compare {logs}")


_OF_SWEEPS = ("seeds", "sweeps", "jobs", "launcher", "slurm", "together", "as_json", "quiet")


def _check_options(options: SweepOptions, places: Mapping[str, str]) -> None:
    """Refuse options that contradict each other."""
    if options["slurm"] and options["launcher"] != "slurm":
        raise click.UsageError("--slurm is for a cluster; give --launcher slurm too")
    if options["seeds"] is None and not options["sweeps"]:
        for name in ("jobs", "launcher", "together"):
            if options.get(name):
                raise click.UsageError(f"--{name} is for many runs; give --seeds or --sweep too")
        return
    for name in ("jobs", "launcher"):
        if options.get("together") and options[name]:
            raise click.UsageError(
                f"--{name} is of runs in processes of their own, --together of runs in one; give "
                "one of the two"
            )
    if options.get("plot"):
        raise click.UsageError("--plot draws one run; leave it out with --seeds and --sweep")
    for name in places:
        if name != "out" and options[name] is not None:
            raise click.UsageError(
                f"--{name} is of one run; leave it out with --seeds and --sweep, whose runs write "
                "into the folder at --out"
            )
    if options["resume"] and options["out"] is None:
        raise click.UsageError("--resume needs --out FOLDER: the sweep to go on with")
    if options["resume"] and options["overwrite"]:
        raise click.UsageError("--resume goes on with a sweep, --overwrite replaces it; give one")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise click.UsageError("a sweep starts processes of its own; leave torchrun out")


def _check_folder(folder: Path) -> None:
    from bridge.errors import InputError

    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: a file; many runs need a folder")
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder}: cannot be written; choose another folder")


def _launcher(options: SweepOptions, folder: Path, runs: int) -> tuple[AbstractLauncher, int]:
    """Give the launcher of the runs, and how many run at a time."""
    from bridge.sweep import Processes

    threads = options["threads"] or 1
    if options["launcher"] == "slurm":
        from bridge.sweep.slurm import Slurm, parse_parameters

        launcher = Slurm(folder.absolute(), parse_parameters(options["slurm"]), threads)
        return launcher, options["jobs"] or runs
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Processes(threads), options["jobs"] or max(1, cpus // threads)


def _job(
    model: type[BaseModel],
    toml: Path | None,
    flags: Mapping[str, object],
    options: SweepOptions,
    point: dict[str, str],
    folder: Path,
    places: Mapping[str, str],
    again: list[str],
) -> Job:
    """Make one point's run; refuse it if its config is wrong or its files exist."""
    from bridge.config import flatten, load_config
    from bridge.errors import InputError
    from bridge.extending import check_same, of_length
    from bridge.runlog import check_new_log, read_run
    from bridge.sweep import Job, point_name

    sets = [f"{key}={value}" for key, value in point.items()]
    try:
        settings = load_config(model, toml, flags, [*options["sets"], *sets])
    except InputError as error:
        mistakes = list(error.mistakes)
        for each in sets:
            mistakes = [text.replace(f"--set {each}", f"--sweep {each}") for text in mistakes]
        raise InputError(*mistakes) from None
    name = point_name(point)
    path, saved = folder / f"{name}.h5", folder / name if "" in places.values() else None
    values = flatten(settings.model_dump(mode="json"))
    status = "waiting"
    if options["resume"] and path.exists():
        run = read_run(path)
        if run.alive:
            raise InputError(
                f"{path}: still being written by process {run.meta['pid']} on "
                f"{run.meta['host']}; wait for its end, or stop it"
            )
        base = load_config(model, base=run.config, base_name=str(path))
        check_same(path, base, of_length(settings, base), "give the same options, or another --out")
        as_long = of_length(settings, base) == settings
        status = "finished" if run.status == "finished" and as_long else status
    else:
        if path.exists() and not options["overwrite"]:
            raise InputError(f"{path} exists; go on with --resume or replace with --overwrite")
        check_new_log(path, options["overwrite"])
        if saved is not None:
            check_new_folder(saved, options["overwrite"])
    written = [f"--{option}={folder / name}{suffix}" for option, suffix in places.items()]
    command = [*interpreter(), *again, "--quiet", *written]
    command += [f"--set={each}" for each in sets]
    typed = {key: values.get(key, value) for key, value in point.items()}
    return Job(log=path, point=typed, command=command, saved=saved, status=status)


def interpreter() -> list[str]:
    """Give the start of another command line: Python, and this checkout's or the installed program.

    It precedes the command's own words in each `Job.command`.
    """
    root = Path(__file__).resolve().parents[1]
    door = [str(root / "cli.py")] if (root / "pyproject.toml").exists() else ["-m", "bioplaus"]
    return [sys.executable, *door]


def _arguments(context: click.Context, leave_out: Sequence[str]) -> list[str]:
    """Rebuild a command line from the parsed options, without some of them."""
    words = [context.info_name or ""]
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        source = context.get_parameter_source(name)
        if name in leave_out or source is not click.core.ParameterSource.COMMANDLINE:
            continue
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif getattr(parameter, "is_flag", False):
            words.append(parameter.opts[0])
        else:
            several = value if isinstance(value, list | tuple) else [value]
            words += [f"{parameter.opts[0]}={each}" for each in several]
    return words
