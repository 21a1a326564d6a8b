"""The command line: puts the commands together; contains no science."""

from __future__ import annotations

import click

from bioplaus.version import version
from bioplaus_cli.compare import compare
from bioplaus_cli.corpus import corpus
from bioplaus_cli.data import data
from bioplaus_cli.eqprop import eqprop_run
from bioplaus_cli.eqprop_nash import eqprop_nash
from bioplaus_cli.export import export
from bioplaus_cli.gradcheck import gradcheck
from bioplaus_cli.hints import key_for
from bioplaus_cli.nash import nash_md
from bioplaus_cli.preference import preference_train
from bioplaus_cli.rank import rank
from bioplaus_cli.runs import runs
from bioplaus_cli.tournament import tournament
from bioplaus_cli.warm_start import warm_start
from bridge.console import Commands


@click.group(
    cls=Commands,
    key_for=key_for,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version(), prog_name="bioplaus")
def main() -> None:
    """Learn without backpropagation, and find policies that no other is preferred to."""


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
