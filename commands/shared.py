"""What commands share that `bridge.console` cannot know."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import BaseModel

from bridge.console import print_json, set_threads

if TYPE_CHECKING:
    from bridge.distributed import Group
    from bridge.session import Session

C = TypeVar("C", bound=BaseModel)


class Spread(click.Command):
    """A command whose repeatable options also take several values at once.

    Those of whole numbers do, and those of text whose metavar ends in three dots.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `--hidden 512 256` as `--hidden 512 --hidden 256`."""
        repeatable = {
            name: r"-?\d+" if isinstance(p.type, click.types.IntParamType) else r"[^-].*"
            for p in self.params
            if isinstance(p, click.Option)
            and p.multiple
            and (isinstance(p.type, click.types.IntParamType) or (p.metavar or "").endswith("..."))
            for name in p.opts
        }
        spread: list[str] = []
        option, taken = None, 0
        for arg in args:
            if arg in repeatable:
                option, taken = arg, 0
            elif option and re.fullmatch(repeatable[option], arg):
                if taken:
                    spread.append(option)
                taken += 1
            else:
                option = None
            spread.append(arg)
        return super().parse_args(ctx, spread)


def new_log(command: str, options: dict[str, Any]) -> Path:
    """Where the log of a command goes; refused before any work if it cannot go there."""
    from bridge.runlog import check_new_log, default_path

    path = options["out"] or default_path(command)
    check_new_log(path, options["overwrite"])
    return path


def prepare(
    command: str,
    model: type[C],
    toml: Path | None,
    flags: Mapping[str, Any],
    options: dict[str, Any],
    log_option: str = "--out",
    group: Group | None = None,
) -> tuple[C, Path]:
    """The config and the log of a training command, new or to go on with; sets torch's threads.

    With --resume and a log at --out, what is not given is as it is in the log, and what is given
    must be. Where that run has finished, its summary is printed and the command ends. Where
    torchrun has started the run's processes again, `options` gets resume.

    Args:
        command: its name.
        model: of its config.
        toml: a config file.
        flags: see `load_config`.
        options: of the command line: sets, out, overwrite, resume, threads, deterministic; `out`
            is the log.
        log_option: how the command line calls the log.
        group: the processes of the run, of which the first decides; this one alone if None.

    Raises:
        InputError: mistakes in the config, a log that cannot be made or gone on with.
    """
    import torch

    from bridge.config import load_config
    from bridge.distributed import launched

    if options["deterministic"]:
        torch.use_deterministic_algorithms(True)
    if group is None:
        if launched():
            raise click.UsageError(f"{command} runs in one process here; leave torchrun out")
        return _prepare(command, model, toml, flags, options, log_option)
    if group.rank:
        told = group.hear()
        set_threads(told["threads"])
        options |= {"quiet": True, "as_json": False}
        return load_config(model, base=told["config"]), Path(told["log"])
    with group.telling() as told:
        if group.max_restarts and options["out"] is None:
            raise click.UsageError(f"--max-restarts needs {log_option} FILE.h5: what to go on with")
        if group.restarts and _started_here(options["out"]):
            options |= {"resume": True, "overwrite": False}
        settings, path = _prepare(command, model, toml, flags, options, log_option)
        told |= {"config": settings.model_dump(mode="json"), "log": str(path)}
        told["threads"] = torch.get_num_threads()
    return settings, path


def _started_here(path: Path) -> bool:
    """Whether a log is of the run whose processes torchrun has just started again."""
    from bridge.errors import InputError
    from bridge.runlog import read_run
    from bridge.runlog.provenance import provenance

    try:
        return path.exists() and read_run(path).meta.get("launch") == provenance()["launch"]
    except InputError:
        return False


def _prepare(
    command: str,
    model: type[C],
    toml: Path | None,
    flags: Mapping[str, Any],
    options: dict[str, Any],
    log_option: str,
) -> tuple[C, Path]:
    from bridge.config import load_config

    if options["resume"] and options["out"] is None:
        raise click.UsageError(f"--resume needs {log_option} FILE.h5: the log to go on with")
    if options["resume"] and options["overwrite"]:
        raise click.UsageError("--resume goes on with a log, --overwrite replaces it; give one")
    threads = options["threads"]
    if options["resume"] and options["out"].exists():
        path, (settings, meta) = options["out"], _resumed(model, toml, flags, options)
        threads = threads or meta["threads"]
    else:
        settings = load_config(model, toml, flags, options["sets"])
        path = new_log(command, options)
    set_threads(threads)
    return settings, path


def _resumed(
    model: type[C], toml: Path | None, flags: Mapping[str, Any], options: dict[str, Any]
) -> tuple[C, Mapping[str, Any]]:
    from bridge.config import load_config
    from bridge.runlog import read_run
    from bridge.session import tidy

    run = read_run(options["out"])
    base = load_config(model, base=run.config, base_name=str(run.path))
    settings = load_config(
        model, toml, flags, options["sets"], base=run.config, base_name=str(run.path)
    )
    _check_same(run.path, base, settings, "leave it out to go on, or start another log")
    if run.status == "finished":
        tidy(run.path, run.meta["run_id"])
        if options["as_json"]:
            summary = [e for e in run.events if e["kind"] == "summary"]
            print_json({**(summary[-1]["of"] if summary else {}), "log": str(run.path)})
        elif not options["quiet"]:
            click.echo(f"log: {run.path} (finished before)")
        click.get_current_context().exit(0)
    return settings, run.meta


def _check_same(path: Path, was: BaseModel, now: BaseModel, fix: str) -> None:
    from bridge.config import config_json, flatten
    from bridge.errors import InputError

    if config_json(was) != config_json(now):
        old, new = (flatten(each.model_dump(mode="json")) for each in (was, now))
        key = next(k for k in old | new if old.get(k) != new.get(k))
        raise InputError(f"{path}: written with {key}={old.get(key)}, not {new.get(key)}; {fix}")


def session_of(
    path: Path, settings: Any, options: dict[str, Any], device: str, **more: Any
) -> AbstractContextManager[Session]:
    """Open a command's `training_session`, with what its options say; `more` goes to it too."""
    from bridge.session import training_session

    return training_session(
        path,
        config=settings,
        seed=settings.seed,
        resume=options["resume"],
        overwrite=options["overwrite"],
        checkpoint_every=options["checkpoint_every"],
        device=device,
        command=sys.argv,
        warn=lambda text: click.echo(f"warning: {text}", err=True),
        **more,
    )


def sweep(
    model: type[BaseModel], toml: Path | None, flags: Mapping[str, Any], options: dict[str, Any]
) -> bool:
    """Run a training command once for each point of --seeds and --sweep, if they are given.

    Every config is checked before the first run starts. A run is the same command without those
    options, with the point's values as --set, and --resume where the sweep has it.

    Args:
        model: of the command's config.
        toml: a config file.
        flags: see `load_config`.
        options: of the command line: seeds, sweeps, jobs, and as `prepare`.

    Returns:
        Whether there was anything to sweep.

    Raises:
        InputError: a mistake in a point or its config, a log that is there, or of another config.
        Stopped, RunFailed, StorageError: see `bridge.sweep.run_jobs`.
    """
    if options["seeds"] is None and not options["sweeps"]:
        if options["jobs"]:
            raise click.UsageError("--jobs is for many runs; give --seeds or --sweep too")
        return False
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise click.UsageError("a sweep starts processes of its own; leave torchrun out")
    from bridge.runlog import default_path
    from bridge.sweep import INDEX, Job, points, run_jobs

    context = click.get_current_context()
    command = context.info_name or ""
    if options.get("plot"):
        raise click.UsageError("--plot draws one run; leave it out with --seeds and --sweep")
    if options["resume"] and options["out"] is None:
        raise click.UsageError("--resume needs --out FOLDER: the sweep to go on with")
    if options["resume"] and options["overwrite"]:
        raise click.UsageError("--resume goes on with a sweep, --overwrite replaces it; give one")
    given = {key for key, value in flags.items() if value is not None and value != ()}
    given |= {text.partition("=")[0].strip() for text in options["sets"]}
    plan = points(options["seeds"], options["sweeps"])
    for key in plan[0]:
        if key in given:
            raise click.UsageError(f"{key} is swept and given one value; give one of the two")
    folder = options["out"] or default_path(command).with_suffix("")
    again = _arguments(context, leave_out=("seeds", "sweeps", "jobs", "out", "as_json", "quiet"))
    jobs = [_job(Job, model, toml, flags, options, point, folder, again) for point in plan]
    threads = options["threads"] or 1
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    silent = options["quiet"] or options["as_json"]
    ended = [job for job in jobs if job.status == "finished"]

    def on_end(job: Job) -> None:
        ended.append(job)
        if not silent:
            said = f": {job.message}" if job.message else ""
            click.echo(f"{len(ended)}/{len(jobs)} {job.log.stem} {job.status}{said}")

    parallel = options["jobs"] or max(1, cpus // threads)
    run_jobs(jobs, folder, command, parallel=parallel, threads=threads, on_end=on_end)
    if options["as_json"]:
        runs = [{"log": str(j.log), "point": j.point, "summary": j.summary} for j in jobs]
        print_json({"index": str(folder / f"{INDEX}.json"), "runs": runs})
    elif not options["quiet"]:
        logs = folder / "*.h5"
        click.echo(f"index: {folder / INDEX}.csv\nlook at them: python cli.py compare {logs}")
    return True


def _job(
    job: Callable[..., Any],
    model: type[BaseModel],
    toml: Path | None,
    flags: Mapping[str, Any],
    options: dict[str, Any],
    point: dict[str, str],
    folder: Path,
    again: list[str],
) -> Any:
    from bridge.config import flatten, load_config
    from bridge.errors import InputError
    from bridge.runlog import read_run
    from bridge.sweep import point_name

    sets = [f"{key}={value}" for key, value in point.items()]
    try:
        settings = load_config(model, toml, flags, [*options["sets"], *sets])
    except InputError as error:
        text = str(error)
        for each in sets:
            text = text.replace(f"--set {each}", f"--sweep {each}")
        raise InputError(text) from None
    path = folder / f"{point_name(point)}.h5"
    values = flatten(settings.model_dump(mode="json"))
    status = "waiting"
    if path.exists() and not options["overwrite"]:
        if not options["resume"]:
            raise InputError(f"{path} exists; go on with --resume or replace with --overwrite")
        run = read_run(path)
        base = load_config(model, base=run.config, base_name=str(path))
        _check_same(path, base, settings, "give the same options, or another --out")
        status = "finished" if run.status == "finished" else status
    program = Path(__file__).resolve().parents[1] / "cli.py"
    command = [sys.executable, str(program), *again, "--quiet", f"--out={path}"]
    command += [f"--set={each}" for each in sets]
    typed = {key: values.get(key, value) for key, value in point.items()}
    return job(log=path, point=typed, command=command, status=status)


def _arguments(context: click.Context, leave_out: Sequence[str]) -> list[str]:
    """Write a command line anew out of what was read from it, without some options."""
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


def whole_numbers(option: str, text: str) -> list[int]:
    """Read "20,30,10"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option} {text}: write whole numbers with commas") from None
