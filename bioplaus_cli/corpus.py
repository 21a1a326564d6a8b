"""`corpus`: prompts, human answers and comparisons from texts that every machine has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from bioplaus_cli.folders import check_new_folder, new_folder
from bridge.console import Commands, common_options, print_json, table


@click.group(cls=Commands)
def corpus() -> None:
    """Write text data for training."""


@corpus.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="New folder for the files.",
)
@common_options("json", "seed", "overwrite", "quiet")
def docstrings(out: Path, overwrite: bool, seed: int | None, as_json: bool, quiet: bool) -> None:
    """Write docstrings of Python's library: the task is to write the summary line from the rest.

    Writes train.jsonl and test.jsonl {"prompt", "completion", "source"}, which share no package,
    and pairs.jsonl {"prompt", "chosen", "rejected", "source"} from the training part.

    Example: python cli.py corpus docstrings --out docstrings
    """
    from bridge.seeding import generator
    from nlhf.language.corpora import docstrings, pairs

    check_new_folder(out, overwrite)
    items = docstrings()
    parts: dict[str, Iterable[Mapping[str, str]]] = {}
    for name, side in (("train", False), ("test", True)):
        parts[name] = [
            {"prompt": item.prompt, "completion": item.summary, "source": item.source}
            for item in items
            if item.held_out is side
        ]
    learn = [item for item in items if not item.held_out]
    parts["pairs"] = list(pairs(learn, generator(seed or 0, "rejected answers")))
    counts: dict[str, int] = {}
    with new_folder(out, overwrite) as folder:
        for name, rows in parts.items():
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
            counts[name] = len(lines)
    if as_json:
        print_json({"folder": str(out), "rows": counts})
    elif not quiet:
        files = [[str(out / f"{name}.jsonl"), count] for name, count in counts.items()]
        table(("file", "rows"), files)
