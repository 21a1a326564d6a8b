"""`data`: show what a training would read."""

from __future__ import annotations

import click

from bridge.console import Commands, common_options, print_json, table


@click.group(cls=Commands)
def data() -> None:
    """Inspect data before training."""


@data.command()
@click.argument("source", metavar="NAME|DIR|FILE|module:function")
@click.option("--data-dir", metavar="DIR", help="Folder with the files of a named data set.")
@common_options("set", "json", "quiet")
def check(
    source: str, data_dir: str | None, sets: tuple[str, ...], as_json: bool, quiet: bool
) -> None:
    """Read data as eqprop-run does, and describe them; the keys of --set are data.*.

    \b
    Examples:
      python cli.py data check mnist
      python cli.py data check DIR --set data.split=letters --set data.holdout=0.1
    """
    from bioplaus.config import DataCheckConfig, data_origins, make_dataset
    from bioplaus.data.assembling import no_test_set
    from bridge.card import Card
    from bridge.config import load_config

    flags = {"data.dataset": source, "data.data_dir": data_dir}
    config = load_config(DataCheckConfig, None, flags, sets).data
    read = make_dataset(config, needs_test=False)
    warnings = list(read.facts.warnings)
    if not len(read.test):
        warnings.insert(0, no_test_set(len(read.train)))
    origins = data_origins(config)
    if as_json:
        print_json(
            {
                "name": read.name,
                "train": len(read.train),
                "test": len(read.test),
                "shape": read.shape,
                "image_shape": read.image_shape,
                "num_outputs": read.num_outputs,
                "labels": read.has_labels,
                "class_names": read.class_names,
                "sha256": read.sha256,
                "facts": dict(read.facts.of),
                "warnings": warnings,
                "code": [origin.as_event() for origin in origins],
            }
        )
    elif not quiet:
        code = {f"code of {each.what}": f"{each.file}, sha256 {each.sha256}" for each in origins}
        facts = {"name": read.name, **read.facts.of, **code, "sha256": read.sha256}
        table(["fact", "value"], Card(source, facts, warnings).rows())
