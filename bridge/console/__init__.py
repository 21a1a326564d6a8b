"""What all commands share: options, tables, devices, and errors as one line and an exit code."""

from __future__ import annotations

import copy
import difflib
import errno
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from bridge import terminal
from bridge.console.tables import RowTable as RowTable
from bridge.console.tables import Shortening as Shortening
from bridge.console.tables import table as table
from bridge.console.tables import visible
from bridge.errors import InputError, OutsideFailed, RunFailed, Stopped, StorageError
from bridge.failures import describe, user_place
from bridge.invocation import WRITTEN, program
from bridge.terminal import kept_in as kept_in

F = TypeVar("F", bound=Callable[..., Any])

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_OUTSIDE_TOLERANCE = 3
EXIT_STORAGE = 74
EXIT_STOPPED = 75
EXIT_INTERRUPTED = 130


class _Out(click.Path):
    """A log's path, or the folder of the logs if the command makes many."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # click marks a missing value with an object of its own, which is truthy.
        seeds, sweeps = (ctx.params.get(n) if ctx else None for n in ("seeds", "sweeps"))
        many = isinstance(seeds, str) or (isinstance(sweeps, tuple) and bool(sweeps))
        kind: click.Path = click.Path(file_okay=not many, dir_okay=many, path_type=Path)
        return kind.convert(value, param, ctx)


OPTIONS: dict[str, Callable[[Any], Any]] = {
    "json": click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    "seed": click.option(
        "--seed", type=click.IntRange(min=0), default=None, help="Root seed of every random number."
    ),
    "out": click.option(
        "--out",
        type=_Out(),
        default=None,
        metavar="FILE.h5",
        help="Path of the log; by default a new file under runs/. For several runs, their folder.",
    ),
    "overwrite": click.option("--overwrite", is_flag=True, help="Replace existing files."),
    "device": click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Device to compute on.",
    ),
    "threads": click.option(
        "--threads",
        type=click.IntRange(min=1),
        default=None,
        help="Number of CPU threads; 1 by default.",
    ),
    "resume": click.option(
        "--resume",
        is_flag=True,
        help="Continue the log at --out, bit for bit; start it if there is none.",
    ),
    "reschedule": click.option(
        "--reschedule",
        is_flag=True,
        help="Let --resume extend a run whose schedule depends on its length; from here on the "
        "schedule follows the new length.",
    ),
    "checkpoint-every": click.option(
        "--checkpoint-every",
        type=click.IntRange(min=1),
        default=None,
        metavar="STEPS",
        help="Steps between checkpoints; by default about one per minute.",
    ),
    "deterministic": click.option(
        "--deterministic",
        is_flag=True,
        help="Use only deterministic kernels; needed on a GPU to resume bit for bit.",
    ),
    # Eager, since the meaning of --out depends on them.
    "seeds": click.option(
        "--seeds",
        is_eager=True,
        metavar="A..B",
        help="One run per seed, e.g. 0..9 or 0,1,5: parallel processes, a log for each, an index.",
    ),
    "sweep": click.option(
        "--sweep",
        "sweeps",
        multiple=True,
        is_eager=True,
        metavar="KEY=A,B,C",
        help="One run per value of a config key; if repeated, one per combination.",
    ),
    "jobs": click.option(
        "--jobs",
        type=click.IntRange(min=1),
        default=None,
        metavar="N",
        help="Number of simultaneous runs of --seeds and --sweep; by default CPUs / --threads, or "
        "all with --launcher slurm.",
    ),
    "launcher": click.option(
        "--launcher",
        type=click.Choice(["local", "slurm"]),
        default=None,
        help="Where --seeds and --sweep run: as processes on this machine, or as Slurm jobs.",
    ),
    "slurm": click.option(
        "--slurm",
        multiple=True,
        metavar="KEY=VALUE",
        help="Option of sbatch for --launcher slurm, e.g. time=60, partition=gpu; repeatable.",
    ),
    "together": click.option(
        "--together",
        is_flag=True,
        help="Train the runs of --seeds and --sweep in this process; runs that differ only in "
        "seed, rate, angle or gain train as one program.",
    ),
    "quiet": click.option("--quiet", is_flag=True, help="Print no progress and no tables."),
    "set": click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set any key of the config; repeatable.",
    ),
    "print-config": click.option(
        "--print-config",
        is_flag=True,
        help="Print the whole config as TOML, with the meaning of each key, and run nothing.",
    ),
}

# click before 8.2 has no such error: it prints the help itself
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
SWEEPING = ("seeds", "sweep", "jobs", "launcher", "slurm")
"""Names of the options of commands that run several points."""
_COMMON = ("json", "seed", "out", "overwrite", "device", "threads", "quiet")


def common_options(*names: str) -> Callable[[F], F]:
    """Decorate a command with shared options.

    The command receives `as_json`, `seed`, `out`, `overwrite`, `device`, `threads`, `quiet`; and
    whichever of these are named: `sets`, `resume`, `reschedule`, `checkpoint_every`,
    `deterministic`, `seeds`, `sweeps`, `jobs`, `launcher`, `slurm`, `together`, `print_config`.

    Args:
        names: some of OPTIONS; without any, those that every command has.
    """

    def decorate(command: F) -> F:
        for name in reversed(names or _COMMON):
            command = OPTIONS[name](command)
        return command

    return decorate


class Commands(click.Group):
    """A group of commands that reports every expected mistake in one line on stderr.

    Exit codes: 1 RunFailed and OutsideFailed, 2 usage or input, 74 StorageError, 75 Stopped, 130
    interrupted. A command that needs another one calls `ctx.exit(code)`. Any other exception is a
    bug and keeps its traceback.
    """

    group_class = type

    def __init__(
        self,
        *args: Any,
        key_for: Callable[[str, str], str | None] = lambda command, option: None,
        **kwargs: Any,
    ) -> None:
        """Create the group.

        Args:
            args: as click.Group.
            key_for: finds the key of a command's config that an unknown option probably means.
            kwargs: as click.Group.
        """
        super().__init__(*args, **kwargs)
        self.key_for = key_for

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a subcommand, or suggest the nearest."""
        looked_up = args and not args[0].startswith("-") and not ctx.resilient_parsing
        if looked_up and self.get_command(ctx, args[0]) is None:
            names = self.list_commands(ctx)
            close = difflib.get_close_matches(args[0], names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(names)}"
            raise click.UsageError(f"no such command {args[0]!r}; {hint}", ctx)
        name, command, rest = super().resolve_command(ctx, args)
        return name, None if command is None else _as_called(command), rest

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run, and exit the process with the right code."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **kwargs)
        terminal.own()
        try:
            _refuse_unsayable(kwargs.get("args", args[0] if args else None) or sys.argv[1:])
            kwargs.setdefault("prog_name", program())
            code = super().main(*args, standalone_mode=False, **kwargs)
        except click.ClickException as error:
            if isinstance(error, _NO_ARGUMENTS):
                click.echo(error.format_message(), err=True)
            else:
                _complain(_usage_text(error, self.key_for))
            _leave(EXIT_USAGE)
        except InputError as error:
            *others, last = error.mistakes or ("",)
            for mistake in (*others, "; ".join((last, *getattr(error, "__notes__", ())))):
                _complain(mistake)
            _leave(EXIT_USAGE)
        except (RunFailed, OutsideFailed) as error:
            _complain("; ".join((str(error), *getattr(error, "__notes__", ()))))
            _leave(EXIT_FAILED)
        except StorageError as error:
            _complain(str(error))
            _leave(EXIT_STORAGE)
        except Stopped as stop:
            if str(stop):
                click.echo(str(stop), err=True)
            _leave(EXIT_STOPPED)
        except OSError as error:
            # only users pass such a name
            if error.errno != errno.ENAMETOOLONG:
                raise
            _complain(f"{str(error.filename)[:60]}...: {error.strerror}; give a shorter name")
            _leave(EXIT_USAGE)
        except (click.Abort, KeyboardInterrupt):
            _complain("interrupted")
            _leave(EXIT_INTERRUPTED)
        except Exception as error:
            if user_place(error) is None:
                raise
            _complain(describe(error))
            _leave(EXIT_FAILED)
        return _leave(code if isinstance(code, int) else EXIT_DONE)


def _as_called(command: click.Command) -> click.Command:
    """The same command, with examples that call this program by the name that the user typed."""
    command = copy.copy(command)
    command.help = (command.help or "").replace(WRITTEN, program()) or None
    return command


def warn(text: str) -> None:
    """Print a warning on stderr."""
    click.echo(visible(f"warning: {text}"), err=True)


def resolve_device(name: str) -> str:
    """Resolve "auto", "cpu" or "cuda" to a device that exists here: "cpu" or "cuda".

    Raises:
        InputError: another name, or "cuda" without a usable GPU.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device={name!r} is unknown; use auto, cpu or cuda")
    if name == "cpu" or torch.cuda.is_available():
        return "cpu" if name == "cpu" else "cuda"
    if name == "cuda":
        raise InputError("device='cuda' has no usable GPU here; use --device cpu or auto")
    return "cpu"


def set_threads(threads: int | None) -> int:
    """Let torch use so many CPU threads, 1 if None; give the number.

    The default is one because matrix products of the usual sizes gain little from more threads, and
    become ten times slower if another process uses one of the cores.
    """
    import torch

    torch.set_num_threads(threads or 1)
    return torch.get_num_threads()


def print_json(value: Any) -> None:
    """Print one JSON value to stdout; NaN and infinities, which JSON lacks, become null."""
    terminal.require()
    click.echo(json.dumps(_finite(value), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def _refuse_unsayable(words: Sequence[str]) -> None:
    """Refuse words that no file name can hold, or that could not be printed or logged."""
    for word in words:
        if "\0" in word:
            raise click.UsageError(f"{word[:60]}: has a NUL character; no name or text can hold it")
        if any("\ud800" <= c <= "\udfff" for c in word):
            raise click.UsageError(f"{word[:60]}: is no UTF-8 text; rename it")


def _usage_text(
    error: click.ClickException, key_for: Callable[[str, str], str | None] = lambda *words: None
) -> str:
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    if not isinstance(error, click.NoSuchOption) or context is None:
        return text
    names = [o for p in context.command.get_params(context) for o in p.opts if o[:2] == "--"]
    for alike in (0.8, 0.5):  # a typing error; a key of the config; any similar name
        close = difflib.get_close_matches(error.option_name, names, 1, cutoff=alike)
        if close:
            return f"no such option {error.option_name}; did you mean {close[0]}?"
        if key := key_for(context.info_name or "", error.option_name):
            return f"no such option {error.option_name}; give --set {key}=VALUE"
    return f"no such option {error.option_name}; options: {', '.join(names)}"


def _leave(code: int) -> NoReturn:
    """End the process, at once if it was one of several.

    A gloo thread may still have to release a tensor, and aborts the process if Python has been shut
    down by then (torch 2.13: "terminate called without an active exception", one exit in ten on a
    busy machine). All logs are sealed by now.
    """
    code = _stored(code)
    distributed = sys.modules.get("bridge.distributed")
    if distributed is not None and distributed.joined_before:
        terminal.flush()
        os._exit(code)
    sys.exit(code)


def _stored(code: int) -> int:
    """Give the exit code, once it is known whether stdout stored the command's result."""
    lost, required = terminal.loss()
    if lost and required:
        _complain(f"stdout: the result cannot be written: {lost}")
        return EXIT_STORAGE if code == EXIT_DONE else code
    if lost:
        click.echo(f"warning: stdout cannot be written: {lost}", err=True)
    return code


def _complain(text: str) -> None:
    rank = os.environ.get("RANK", "0")  # set by torchrun
    where = "error" if rank == "0" else f"error in process {rank}"
    click.echo(f"{where}: {visible(text)}", err=True)
