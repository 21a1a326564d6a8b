"""`export`: write a trained network for other simulators."""

from __future__ import annotations

from pathlib import Path

import click

from bridge.console import common_options, print_json
from bridge.errors import StorageError


@click.command()
@click.argument("log", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option(
    "--nir",
    "target",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.nir",
    help="New file, in the NIR format.",
)
@click.option("--tau", default="10 ms", show_default=True, help="Membrane time constant.")
@common_options("json", "quiet")
def export(log: Path, target: Path, tau: str, as_json: bool, quiet: bool) -> None:
    """Write the network in a log of eqprop-run for other simulators, in NIR.

    Layers become LI nodes and weights Affine nodes. What NIR has no node for is kept as metadata
    and listed.

    Example: python cli.py export runs/eqprop-run-20260101-120000-abc123.h5 --nir network.nir
    """
    from bioplaus.config import restore_field
    from bioplaus.interchange import UNSAID, seconds, to_nir, write_nir
    from bridge.runlog import read_run
    from bridge.usercode import remember

    time = seconds(tau)
    run = read_run(log)
    remember(run.events)
    step, weights = run.weights()
    field = restore_field(run.config, weights)
    kept = {name: run.config[name] for name in ("phases", "estimator") if name in run.config}
    graph = to_nir(field, tau=time, phases=kept)
    try:
        write_nir(target, graph)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror or error}") from None
    sizes = getattr(field, "sizes", [field.n])
    if as_json:
        about = {"file": str(target), "step": step, "sizes": sizes, "tau_seconds": time}
        print_json({**about, "not_expressed_in_nir": UNSAID})
    elif not quiet:
        click.echo(f"{target}: the network after step {step}, sizes {sizes}")
        click.echo("NIR cannot say, so that only this program knows:")
        for line in UNSAID:
            click.echo(f"- {line}")
