"""Options shared by the commands that train a field, and the keys of the config that they set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict, TypeVar

import click

from bioplaus_cli.completing import estimators, one_of


class FieldOptions(TypedDict):
    """The options of commands that train a field."""

    dataset: str | None
    data_dir: str | None
    field: str | None
    hidden: tuple[int, ...]
    activation: str | None
    estimator: str | None
    nudging: str | None
    engine: str | None
    epochs: int | None
    check_gradients_every: int | None


F = TypeVar("F", bound=Callable[..., object])

_KEYS = {
    "dataset": "data.dataset",
    "data_dir": "data.data_dir",
    "field": "network.field",
    "hidden": "network.hidden",
    "activation": "network.activation",
    "estimator": "estimator.name",
    "nudging": "estimator.nudging",
    "engine": "phases.engine",
    "epochs": "epochs",
    "check_gradients_every": "check_gradients_every",
    "seed": "seed",
}


def data_options(dataset: str) -> Callable[[F], F]:
    """Decorate a command with the options that choose the data.

    Args:
        dataset: the help of --dataset.
    """
    return _together(
        click.option("--dataset", metavar="NAME|DIR|FILE|module:function", help=dataset),
        click.option("--data-dir", help="Folder with the files of a named data set."),
    )


def network_options(field: str) -> Callable[[F], F]:
    """Decorate a command with the options that choose the field.

    Args:
        field: the help of --field.
    """
    return _together(
        click.option("--field", metavar="NAME|module:Class", help=field),
        hidden_option("Units of each hidden layer, from below: 512,256 or 512 256."),
        click.option(
            "--activation",
            metavar="NAME|module:function",
            help="Activation function rho of the hidden units.",
        ),
    )


def hidden_option(text: str) -> Callable[[F], F]:
    """Decorate a command with --hidden; a `Spread` command accepts several numbers at once.

    Args:
        text: its help.
    """
    return click.option("--hidden", type=_Units(), multiple=True, metavar="UNITS...", help=text)


class _Units(click.types.IntParamType):
    """An integer; the error for anything else explains how to write several."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        try:
            return int(str(value))
        except ValueError:
            self.fail(f"{value!r}: write whole numbers, as 512,256 or 512 256", param, ctx)


def learning_options(estimator: str) -> Callable[[F], F]:
    """Decorate a command with the options that choose how a field learns.

    Args:
        estimator: the help of --estimator.
    """
    return _together(
        click.option(
            "--estimator",
            metavar="NAME|module:Class",
            help=estimator,
            shell_complete=one_of(estimators),
        ),
        click.option("--nudging", help="one-sided, centered or random-sign."),
        click.option("--engine", help="Simulator of the phases: torch or brian2."),
        click.option("--epochs", type=int, help="Passes over the training inputs."),
        click.option(
            "--check-gradients-every", type=int, metavar="N", help="Steps between gradient checks."
        ),
    )


def field_flags(options: Mapping[str, object]) -> dict[str, object]:
    """Give the values of these options and of --seed, by the keys of the config."""
    return {key: options[name] for name, key in _KEYS.items()}


def _together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Decorate with several options, which --help lists in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
