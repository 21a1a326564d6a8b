"""The options of the commands, as types of what click passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from bridge.config import Config


class Options(TypedDict):
    """The options that every command with a log has, see `bridge.console.common_options`."""

    as_json: bool
    seed: int | None
    out: Path | None
    overwrite: bool
    device: str
    threads: int | None
    quiet: bool


class TrainingOptions(Options):
    """The options of commands with a config and a log that can be resumed.

    Some commands lack some of the last ones. Two are no options: `was` is the config before a run
    was made longer, `words` the command line that the log records instead of this process's own.
    """

    sets: tuple[str, ...]
    print_config: bool
    resume: bool
    checkpoint_every: int | None
    deterministic: bool
    reschedule: NotRequired[bool]
    together: NotRequired[bool]
    was: NotRequired[Config]
    words: NotRequired[Sequence[str]]


class SweepOptions(TrainingOptions):
    """The options of commands that --seeds and --sweep run many times."""

    seeds: str | None
    sweeps: tuple[str, ...]
    jobs: int | None
    launcher: str | None
    slurm: tuple[str, ...]


def picked(options: Mapping[str, object], names: Iterable[str]) -> dict[str, object]:
    """Give the values of some options, by their names."""
    return {name: options[name] for name in names}
