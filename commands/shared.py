"""What commands share that `bridge.console` cannot know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click


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


def whole_numbers(option: str, text: str) -> list[int]:
    """Read "20,30,10"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option} {text}: write whole numbers with commas") from None
