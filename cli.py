"""The command line: puts the commands together; holds no science."""

from __future__ import annotations

import click

from bioplaus.version import version
from bridge.console import Commands
from commands.compare import compare
from commands.corpus import corpus
from commands.data import data
from commands.eqprop import eqprop_run
from commands.eqprop_nash import eqprop_nash
from commands.export import export
from commands.gradcheck import gradcheck
from commands.hints import key_for
from commands.nash import nash_md
from commands.preference import preference_train
from commands.rank import rank
from commands.runs import runs
from commands.tournament import tournament
from commands.warm_start import warm_start


@click.group(
    cls=Commands,
    key_for=key_for,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version(), prog_name="bioplaus")
def main() -> None:
    """Learn without backpropagation, and find what no one can beat."""


for command in (
    eqprop_run,
    eqprop_nash,
    gradcheck,
    warm_start,
    nash_md,
    preference_train,
    tournament,
    rank,
    data,
    corpus,
    compare,
    export,
    runs,
):
    main.add_command(command)

if __name__ == "__main__":
    main()
