"""`--print-config`: print the whole config of a run as TOML, without running it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bioplaus_cli.options import TrainingOptions
from bioplaus_cli.shared import logged

if TYPE_CHECKING:
    from pydantic import BaseModel


def print_config(
    model: type[BaseModel],
    toml: Path | None,
    flags: Mapping[str, object],
    options: TrainingOptions,
) -> None:
    """If --print-config is given, print the config that the run would have, and end the command.

    With --resume and an existing log, it is the config with which the run would continue.

    Args:
        model: the class of the command's config.
        toml: a config file.
        flags: see `load_config`.
        options: of the command line: print_config, sets, out, resume; seeds and sweeps if it has
            them.

    Raises:
        InputError: mistakes in the config.
    """
    if not options["print_config"]:
        return
    if options.get("seeds") is not None or options.get("sweeps"):
        raise click.UsageError(
            "--print-config is of one run; leave it out with --seeds and --sweep"
        )
    from bridge.config import config_toml, load_config

    found = logged(options["out"]) if options["resume"] else None
    settings = load_config(
        model,
        toml,
        flags,
        options["sets"],
        base=None if found is None else found.config,
        base_name=str(options["out"]),
    )
    click.echo(config_toml(settings), nl=False)
    raise click.exceptions.Exit(0)
