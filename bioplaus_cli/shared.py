"""What commands share that `bridge.console` cannot know."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.console import kept_in, print_json, set_threads
from bridge.invocation import command_words, program

if TYPE_CHECKING:
    from bridge.config.loading import C
    from bridge.distributed import Group
    from bridge.session import Session


class Spread(click.Command):
    """A command whose repeatable options also take several values at once.

    Those of whole numbers do, also with commas between them, and those of text whose metavar ends
    in three dots.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `--hidden 512 256` and `--hidden 512,256` as `--hidden 512 --hidden 256`."""
        return super().parse_args(ctx, self.spread(args))

    def spread(self, args: list[str]) -> list[str]:
        """Write every value of such an option after an option of its own."""
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
    """Write `--hidden=512` as `--hidden 512`, of these options."""
    for arg in args:
        name, equals, value = arg.partition("=")
        yield from (name, value) if equals and name in options else (arg,)


def new_log(command: str, options: dict[str, Any]) -> Path:
    """Where the log of a command goes; refused before any work if it cannot go there."""
    from bridge.resuming import require_free
    from bridge.runlog import check_new_log, default_path

    path = options["out"] or default_path(command)
    check_new_log(path, options["overwrite"])
    require_free(path, options["overwrite"])
    return path


def check_plot(path: Path, options: Mapping[str, Any]) -> None:
    """Refuse before any work a picture that could not be drawn.

    A run that goes on draws anew what it drew when it was interrupted.

    Raises:
        InputError: see `bridge.report.policies.check_picture`.
    """
    from bridge.report.policies import check_picture

    check_picture(path, options["overwrite"] or options["resume"])


def logged(path: Path | None) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """The config and the facts of the run to go on with at `path`; None where there is none.

    They are those of its log, or where that is lost, of its checkpoints.

    Raises:
        InputError: what is there cannot be read.
    """
    from bridge.resuming import logged as found

    if path is None or path.is_dir():  # that of a sweep
        return None
    return found(path, lambda text: click.echo(f"warning: {text}", err=True))


def events_of(path: Path) -> tuple[Mapping[str, Any], ...]:
    """What a log that is gone on with has noted; nothing where it is lost."""
    from bridge.errors import InputError
    from bridge.runlog import read_run

    try:
        return read_run(path).events
    except InputError:
        return ()


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
    must be, but for the run's length: with another one `options` gets `was`, the config before.
    Where that run has finished, its summary is printed and the command ends. Where torchrun has
    started the run's processes again, `options` gets resume.

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
    from bridge.usercode import remember, remembered

    if options["deterministic"]:
        torch.use_deterministic_algorithms(True)
    if group is None:
        if launched():
            raise click.UsageError(f"{command} runs in one process here; leave torchrun out")
        return _prepare(command, model, toml, flags, options, log_option)
    if group.rank:
        told = group.hear()
        remember(told["code"])
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
        told |= {"threads": torch.get_num_threads(), "code": remembered()}
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
    if options.get("reschedule") and not options["resume"]:
        raise click.UsageError("--reschedule is for a run that --resume makes longer; add --resume")
    if options["resume"] and options["overwrite"]:
        raise click.UsageError("--resume goes on with a log, --overwrite replaces it; give one")
    threads = options["threads"]
    found = logged(options["out"]) if options["resume"] else None
    if found is not None:
        path, settings = options["out"], _resumed(model, toml, flags, options, found[0])
        threads = threads or found[1]["threads"]
    else:
        settings = load_config(model, toml, flags, options["sets"])
        path = new_log(command, options)
    set_threads(threads)
    return settings, path


def _resumed(
    model: type[C],
    toml: Path | None,
    flags: Mapping[str, Any],
    options: dict[str, Any],
    was: Mapping[str, Any],
) -> C:
    """The config of a run that goes on; where it has finished, its summary, and the end."""
    from bridge.config import load_config
    from bridge.extending import check_same, of_length
    from bridge.runlog import read_run
    from bridge.session import tidy

    path = options["out"]
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
    if options["as_json"]:
        print_json({**summary, "log": str(path)})
    elif not options["quiet"]:
        mark = ", NOT CONVERGED" if summary.get("converged") is False else ""
        click.echo(f"log: {path} (finished before{mark})")
    raise click.exceptions.Exit(0)


def session_of(
    path: Path,
    settings: Any,
    options: dict[str, Any],
    device: str,
    *,
    steps: int | None = None,
    in_passing: Callable[[str, int], bool] = lambda table, step: True,
    held: bool = True,
    **more: Any,
) -> AbstractContextManager[Session]:
    """Open a command's `training_session`, with what its options say and its headline.

    Args:
        path: the log.
        settings: the config.
        options: of the command line; `words` is what the log keeps of it, if not this process's.
        device: where it computes.
        steps: of one epoch or iteration, where the run may become longer.
        in_passing: see `bridge.extending.Plan`.
        held: whether something is held out, of which the headline can be.
        more: goes to the session as it is.
    """
    from bioplaus_cli.headlines import HELD, headline_for
    from bridge.extending import Plan
    from bridge.session import training_session

    plan = None
    if steps is not None:
        plan = Plan(settings, steps, options.get("was"), options["reschedule"], in_passing)
    if "headline" not in more:
        name = click.get_current_context().info_name or ""
        more["headline"] = headline_for(name, more["tables"], () if held else HELD)
    kept_in(path)
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
        warn=lambda text: click.echo(f"warning: {text}", err=True),
        **more,
    )


def look_at(path: Path) -> str:
    """The line that says how to look at a log."""
    return f"look at it: {program()} runs show {shlex.quote(str(path))}"


def whole_numbers(option: str, text: str) -> list[int]:
    """Read "20,30,10"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option} {text}: write whole numbers with commas") from None
