"""The page of all settings, and that of all commands, out of the program itself."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click

import cli
from bioplaus_cli.hints import CONFIGS
from bridge.config import Setting, settings_of
from bridge.config.describing import sentence

HEAD = """\
# All settings

This page lists every key that `--set KEY=VALUE` and TOML files accept, with its default, its legal
values and its meaning. For commands that read a CONFIG.toml, `--print-config` prints the same for
one run, as a file that the command can read:

```bash
python cli.py eqprop-run --estimator asym-ep --print-config > mine.toml
python cli.py eqprop-run mine.toml
```

Some keys belong to a single choice, for example `optimizer.momentum`. The table says so. It is an
error to give a key that has no effect with your other choices.
"""


def settings_page() -> str:
    """Write the table of each config."""
    lines = [HEAD]
    for command, places in CONFIGS.items():
        for place in places:
            module, _, name = place.partition(":")
            title = {"check": "data check"}.get(command, command)
            title += " --model" if name == "LanguageConfig" else ""
            lines += [f"## `{title}`", ""]
            lines += _table(settings_of(getattr(importlib.import_module(module), name)))
            lines.append("")
    return "\n".join(lines)


def _table(settings: list[Setting]) -> Iterator[str]:
    yield "| key | default | legal | meaning |"
    yield "|---|---|---|---|"
    for each in settings:
        meaning = sentence(each.meaning)
        if each.readers:
            meaning += f" Read with {_readers(each.readers)}."
        default = _short(each.default)
        cells = (f"`{each.key}`", f"`{default}`" if default else "", each.legal, meaning)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _readers(readers: tuple[str, ...]) -> str:
    """Join choices, those of one key together: `name=a`, b or c."""
    key = readers[0].rpartition("=")[0]
    if all(each.rpartition("=")[0] == key for each in readers):
        return f"`{key}=` " + ", ".join(f"`{each.rpartition('=')[2]}`" for each in readers)
    return ", ".join(f"`{each}`" for each in readers)


def _short(default: str) -> str:
    return default if len(default) <= 60 else default[:57] + "..."


def commands_page() -> str:
    """Write what --help of each command says."""
    lines = ["# All commands", "", "This page shows the output of `--help` for each command.", ""]
    for name, command in sorted(_all(cli.main, "")):
        context = click.Context(command, info_name=f"python cli.py {name}", max_content_width=100)
        lines += [f"## `{name}`", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def _all(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _all(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command
