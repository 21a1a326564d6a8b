"""What commands share that is too specific for `bridge.console`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Required, TypedDict, TypeVar, Unpack

import click

from bioplaus_cli.options import Options, TrainingOptions
from bridge.console import kept_in, print_json, set_threads, warn
from bridge.invocation import command_words, program

if TYPE_CHECKING:
    from torch import Tensor

    from bioplaus.config import GradcheckConfig
    from bioplaus.config.loop import LoopConfig
    from bridge.config import Config
    from bridge.distributed import Group
    from bridge.headline import Headline
    from bridge.schedules import Schedule
    from bridge.session import Session
    from nlhf.config import (
        LanguageConfig,
        NashConfig,
        PreferenceConfig,
        TournamentConfig,
        WarmStartConfig,
    )

    RunConfig = (
        LoopConfig
        | GradcheckConfig
        | NashConfig
        | LanguageConfig
        | PreferenceConfig
        | TournamentConfig
        | WarmStartConfig
    )

S = TypeVar("S", bound="Config")


class SessionOptions(TypedDict, total=False):
    """What else a command says of its session, see `bridge.session.training_session`."""

    tables: Required[Mapping[str, type]]
    dataset: Mapping[str, object] | None
    weights: Mapping[str, Tensor]
    parent: str | None
    headline: Headline | None
    log_option: str
    group: Group
    ranks: bool
    processes: int
    signals: Sequence[int] | None


class Spread(click.Command):
    """A command whose repeatable options also accept several values at once.

    This holds for options of integers, which may also be separated by commas, and for options of
    text whose metavar ends in three dots.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `--hidden 512 256` and `--hidden 512,256` as `--hidden 512 --hidden 256`."""
        return super().parse_args(ctx, self.spread(args))

    def spread(self, args: list[str]) -> list[str]:
        """Repeat the option before each of its values."""
        values = {
            name: _NUMBERS if isinstance(p.type, click.types.IntParamType) else _TEXT
            for p in self.params
            if isinstance(p, click.Option)
            and p.multiple
            and (isinstance(p.type, click.types.IntParamType) or (p.metavar or "").endswith("..."))
            for name in p.opts
        }
        spread: list[str] = []
        option, taken = "", 0
        for arg in _apart(args, values):
            if arg in values:
                option, taken = arg, 0
                spread.append(arg)
            elif option and values[option].fullmatch(arg):
                each = _NUMBER.findall(arg) if values[option] is _NUMBERS else [arg]
                words = [word for value in each for word in (option, value)]
                spread += words if taken else words[1:]
                taken += 1
            else:
                option = ""
                spread.append(arg)
        return spread


_TEXT = re.compile(r"[^-].*")
_NUMBER = re.compile(r"-?\d+")
_NUMBERS = re.compile(r"\s*-?\d+(?:\s*,\s*-?\d+)*\s*,?\s*")


def _apart(args: list[str], options: Collection[str]) -> Iterator[str]:
    """Rewrite `--hidden=512` as `--hidden 512`, for these options."""
    for arg in args:
        name, equals, value = arg.partition("=")
        yield from (name, value) if equals and name in options else (arg,)


def new_log(command: str, options: Options) -> Path:
    """Choose the path of a command's log; refuse before any work if it is not usable."""
    from bridge.resuming import require_free
    from bridge.runlog import check_new_log, default_path

    path = options["out"] or default_path(command)
    check_new_log(path, options["overwrite"])
    require_free(path, options["overwrite"])
    return path


def check_plot(path: Path, options: TrainingOptions) -> None:
    """Refuse a picture that could not be drawn, before any work.

    A resumed run replaces the picture that it drew when it was interrupted.

    Raises:
        InputError: see `bridge.report.policies.check_picture`.
    """
    from bridge.report.policies import check_picture

    check_picture(path, options["overwrite"] or options["resume"])


class Logged(NamedTuple):
    """The config of a run to continue, its number of threads, and the log that it came from."""

    config: Mapping[str, object]
    threads: int
    parent: str | None


def logged(path: Path | None) -> Logged | None:
    """Read the config and the facts of the run to continue at `path`; None if there is none.

    They come from its log or, if that is lost, from its checkpoints.

    Raises:
        InputError: the log or the checkpoints cannot be read.
    """
    from bridge.resuming import logged as found

    if path is None or path.is_dir():  # the folder of a sweep
        return None
    run = found(path, warn)
    if run is None:
        return None
    config, facts = run
    return Logged(config, facts["threads"], facts.get("parent"))


def events_of(path: Path) -> tuple[Mapping[str, object], ...]:
    """Read the events of a log to continue; none if it is lost."""
    from bridge.errors import InputError
    from bridge.runlog import read_run

    try:
        return read_run(path).events
    except InputError:
        return ()


def prepare(
    command: str,
    model: type[S],
    toml: Path | None,
    flags: Mapping[str, object],
    options: TrainingOptions,
    log_option: str = "--out",
    group: Group | None = None,
    finished: Callable[[S, Path], Mapping[str, str]] = lambda settings, path: {},
) -> tuple[S, Path]:
    """Give a training command's config and log, new or to continue; set torch's threads.

    With --resume and a log at --out, missing values are taken from the log, and given values must
    equal those in it, except the run's length: if that differs, `options` gets `was`, the config
    before. If that run has finished, its summary is printed and the command ends. If torchrun has
    restarted the run's processes, `options` gets resume.

    Args:
        command: the command's name.
        model: the class of its config.
        toml: a config file.
        flags: see `load_config`.
        options: of the command line: sets, out, overwrite, resume, threads, deterministic; `out`
            is the log.
        log_option: the option for the log on the command line.
        group: the processes of the run, of which the first decides; None means this one alone.
        finished: called with the config and the log of a run that has finished; gives what its
            summary says besides.

    Raises:
        InputError: mistakes in the config, or a log that cannot be created or continued.
    """
    import torch

    from bridge.config import load_config
    from bridge.distributed import launched
    from bridge.usercode import remember, remembered

    if options["deterministic"]:
        torch.use_deterministic_algorithms(True)
    if group is None:
        if launched():
            raise click.UsageError(f"{command} runs in one process here; leave torchrun out")
        return _prepare(command, model, toml, flags, options, log_option, finished)
    if group.rank:
        message = group.hear()
        remember(message["code"])
        set_threads(message["threads"])
        options["quiet"], options["as_json"] = True, False
        return load_config(model, base=message["config"]), Path(message["log"])
    with group.telling() as message:
        if group.max_restarts and options["out"] is None:
            raise click.UsageError(f"--max-restarts needs {log_option} FILE.h5: what to go on with")
        if group.restarts and options["out"] is not None and _started_here(options["out"]):
            options["resume"], options["overwrite"] = True, False
        own = (command, model, toml, flags, options, log_option, finished)
        settings, path = _prepare(*own)
        message |= {"config": settings.model_dump(mode="json"), "log": str(path)}
        message |= {"threads": torch.get_num_threads(), "code": remembered()}
    return settings, path


def _started_here(path: Path) -> bool:
    """Whether a log belongs to the run whose processes torchrun has just restarted."""
    from bridge.errors import InputError
    from bridge.runlog import read_run
    from bridge.runlog.provenance import provenance

    try:
        return path.exists() and read_run(path).meta.get("launch") == provenance()["launch"]
    except InputError:
        return False


def _prepare(
    command: str,
    model: type[S],
    toml: Path | None,
    flags: Mapping[str, object],
    options: TrainingOptions,
    log_option: str,
    finished: Callable[[S, Path], Mapping[str, str]],
) -> tuple[S, Path]:
    from bridge.config import load_config

    path = options["out"]
    if options["resume"] and path is None:
        raise click.UsageError(f"--resume needs {log_option} FILE.h5: the log to go on with")
    if options.get("reschedule") and not options["resume"]:
        raise click.UsageError("--reschedule is for a run that --resume makes longer; add --resume")
    if options["resume"] and options["overwrite"]:
        raise click.UsageError("--resume goes on with a log, --overwrite replaces it; give one")
    threads = options["threads"]
    found = logged(path) if options["resume"] else None
    if path is not None and found is not None:
        settings = _resumed(model, toml, flags, options, path, found.config, finished)
        threads = threads or found.threads
    else:
        settings = load_config(model, toml, flags, options["sets"])
        path = new_log(command, options)
    set_threads(threads)
    return settings, path


def _resumed(
    model: type[S],
    toml: Path | None,
    flags: Mapping[str, object],
    options: TrainingOptions,
    path: Path,
    was: Mapping[str, object],
    finished: Callable[[S, Path], Mapping[str, str]],
) -> S:
    """Give the config of a resumed run; if it has finished, print its summary and end."""
    from bridge.config import load_config
    from bridge.extending import check_same, of_length
    from bridge.runlog import read_run
    from bridge.session import tidy

    base = load_config(model, base=was, base_name=str(path))
    settings = load_config(model, toml, flags, options["sets"], base=was, base_name=str(path))
    check_same(path, base, of_length(settings, base), "leave it out to go on, or start another log")
    longer = of_length(settings, base) != settings
    if longer:
        options["was"] = base
    if not path.exists() or (run := read_run(path)).status != "finished":
        return settings
    tidy(path)
    if longer:
        return settings
    kept_in(path)
    summaries = [e["of"] for e in run.events if e["kind"] == "summary"]
    summary = summaries[-1] if summaries else {}
    more = finished(settings, path)
    if options["as_json"]:
        print_json({**summary, "log": str(path), **more})
    elif not options["quiet"]:
        mark = ", NOT CONVERGED" if summary.get("converged") is False else ""
        click.echo(f"log: {path} (finished before{mark})")
        for name, value in more.items():
            click.echo(f"{name}: {value}")
    raise click.exceptions.Exit(0)


def session_of(
    path: Path,
    settings: RunConfig,
    options: TrainingOptions,
    device: str,
    *,
    steps: int | None = None,
    in_passing: Callable[[str, int], bool] = lambda table, step: True,
    courses: Callable[[int], Mapping[str, Schedule]] = lambda steps: {},
    held: bool = True,
    **more: Unpack[SessionOptions],
) -> AbstractContextManager[Session]:
    """Open a command's `training_session`, according to its options, with its headline.

    Args:
        path: the log.
        settings: the config.
        options: of the command line; `words` replaces this process's command line in the log.
        device: where it computes.
        steps: of one epoch or iteration, if the run may become longer.
        in_passing, courses: see `bridge.extending.Plan`.
        held: whether there are held-out data, which the headline can use.
        more: passed on to the session.
    """
    from bioplaus_cli.headlines import HELD, headline_for
    from bioplaus_cli.precision import bfloat16_doubt
    from bridge.extending import Plan
    from bridge.session import training_session

    plan = None
    if steps is not None:
        changed = options.get("was"), options.get("reschedule", False)
        plan = Plan(settings, steps, *changed, in_passing, courses)
    if "headline" not in more:
        name = click.get_current_context().info_name or ""
        more["headline"] = headline_for(name, more["tables"], () if held else HELD)
    kept_in(path)
    group = more.get("group")
    first = group is None or group.rank == 0
    if first and (doubt := bfloat16_doubt(settings, device)) is not None:
        warn(doubt)
    return training_session(
        path,
        config=settings,
        seed=settings.seed,
        resume=options["resume"],
        overwrite=options["overwrite"],
        checkpoint_every=options["checkpoint_every"],
        device=device,
        command=command_words(options.get("words")),
        plan=plan,
        warn=warn,
        **more,
    )


def look_at(path: Path) -> str:
    """Give the line that says how to look at a log."""
    return f"look at it: {program()} runs show {shlex.quote(str(path))}"


def whole_numbers(option: str, text: str) -> list[int]:
    """Parse "20,30,10"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option} {text}: write whole numbers with commas") from None
