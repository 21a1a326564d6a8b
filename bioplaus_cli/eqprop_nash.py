"""`eqprop-nash`: train a network by votes towards a policy that no other is preferred to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from bioplaus_cli.explaining import Explained
from bioplaus_cli.field_options import (
    FieldOptions,
    data_options,
    field_flags,
    learning_options,
    network_options,
)
from bioplaus_cli.learning import EpochRecord, learn
from bioplaus_cli.options import SweepOptions, picked
from bioplaus_cli.printing import print_config
from bioplaus_cli.shared import look_at, prepare
from bioplaus_cli.sweeps import sweep
from bridge.console import SWEEPING, common_options, print_json, resolve_device, table

if TYPE_CHECKING:
    from bridge.runlog import RunLog


class VotingOptions(SweepOptions, FieldOptions):
    """The options of `eqprop-nash`."""

    judge: str | None
    algorithm: str | None
    votes: int | None
    tau: float | None


COLUMNS = {
    "epoch": "d",
    "exploitability": ".4f",
    "regularised gap": ".4f",
    "KL to equilibrium": ".4f",
    "support": ".1%",
    "cosine": ".4f",
    "votes": ".0f",
    "entropy": ".3f",
    "free residual": ".1e",
    "accepted": ".1%",
    "images/s": ".0f",
}


@click.command("eqprop-nash", cls=Explained)
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.toml]")
@data_options(
    "Inputs of the network; the labels are the contexts. mnist, or contexts: one input each."
)
@click.option(
    "--judge",
    metavar="cyclic|votes:FILE|module:function",
    help="Preferences in each context; votes:sound-quality and votes:roshambo are shipped.",
)
@click.option(
    "--algorithm", help="nash-md, self-play, best-response, rlhf, extragradient, nash-ema."
)
@click.option(
    "--votes", type=int, metavar="N", help="Votes per input and update; 0 uses exact probabilities."
)
@click.option("--tau", type=float, help="Weight of the KL to the reference policy.")
@network_options("leaky; or your own: a class, an object, or a function that returns either.")
@learning_options("asym-ep, vector-field, ..., or an oracle: implicit is backprop.")
@common_options("set", "print-config", "resume", "reschedule", "checkpoint-every")
@common_options("deterministic", *SWEEPING)
@common_options()
def eqprop_nash(config: Path | None, **options: Unpack[VotingOptions]) -> None:
    """Train a network of leaky integrators by votes, so that no other policy is preferred.

    There is no reward, backpropagation or critic. Each synapse uses its presynaptic activity, the
    change of its postsynaptic state, and one number computed from votes. The exact values of the
    game are shown next to the results.

    \b
    Examples:
      python cli.py eqprop-nash --epochs 2 --votes 1
      python cli.py eqprop-nash --judge votes:sound-quality --set tau=0.1
      python cli.py eqprop-nash --seeds 0..2 --sweep estimator.name=asym-ep,vector-field
    """
    from bioplaus_votes.config import VotingConfig
    from bioplaus_votes.objectives import AbstractVoting
    from bioplaus_votes.training import build_voting
    from bridge.distributed import Group

    names = ("judge", "algorithm", "votes", "tau")
    flags = picked(options, names) | field_flags(options)
    print_config(VotingConfig, config, flags, options)
    if sweep(VotingConfig, config, flags, options):
        return
    settings, path = prepare("eqprop-nash", VotingConfig, config, flags, options)
    device = resolve_device(options["device"])
    run = build_voting(settings, device)
    contexts: list[dict[str, object]] = []

    def at_end(log: RunLog) -> None:
        assert isinstance(run.objective, AbstractVoting)
        contexts.extend(run.objective.of_contexts(run))
        for each in contexts:
            log.event("context", of=each)

    summary = learn(run, path, device, Group(), options, COLUMNS, _cells, at_end)
    if options["as_json"]:
        print_json({**summary, "log": str(path)})
    elif not options["quiet"]:
        _print_contexts(contexts, summary)
        click.echo(f"log: {path}\n{look_at(path)}")


def _cells(record: EpochRecord) -> list[object]:
    named = vars(record)
    names = ["epoch", "exploitability", "regularised_gap", "kl_to_equilibrium", "support_mass"]
    names += ["gradient_cosine", "votes", "entropy", "free_residual", "accepted"]
    return [named[name] for name in [*names, "images_per_second"]]


def _print_contexts(
    contexts: Sequence[Mapping[str, object]], summary: Mapping[str, object]
) -> None:
    if not contexts:
        click.echo("the judge has no table: exploitability is unknown")
        return
    columns = ("context", "inputs", "exploitability", "of_equilibrium", "certificate")
    columns += ("kl_to_equilibrium", "kl_bound")
    table(list(columns), [[each[name] for name in columns] for each in contexts[:20]])
    if len(contexts) > 20:
        click.echo(f"and {len(contexts) - 20} more contexts")
    bounds = ", ".join(
        f"{name} {summary[f'{name}_exploitability']:.4f}"
        for name in ("equilibrium", "rlhf", "uniform")
    )
    click.echo(f"exploitability {summary['exploitability']:.4f}; of the game: {bounds}")
