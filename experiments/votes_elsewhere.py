"""Learning from votes beyond images: real votes, 43 bots, languages, Kuhn poker.

    python -m experiments.votes_elsewhere [NAME ...] [--seeds N] [--processes N] [--out FOLDER]

NAME is sound-quality, roshambo, poker, or a language V,L such as 4,4; without any, all are run.
Prints a table of all runs. Existing results in FOLDER are reused, and interrupted runs continued.
Poker is evaluated by OpenSpiel, if that is installed. Languages and poker stay on the CPU: their
votes are drawn there, and their networks are small.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from bioplaus import AsymEP, History, LeakyField, Settling, fit
from bioplaus_votes.config import SLOW_FEEDBACK
from bioplaus_votes.languages import LanguageNash, rhyme
from bioplaus_votes.measuring import policy_of
from bioplaus_votes.poker import INFORMATION, KuhnSelfPlay, exploitability, inputs
from bridge.disk import replace_file
from bridge.progress import progress
from bridge.runlog import read_run
from bridge.seeding import generator
from experiments.jobs import CLI, await_all, device_option, markdown, settings, workers

SETTLING = Settling(tolerance=1e-4, free_steps=200, nudged_steps=100, verify=False)
SOUND = [
    *("--judge", "votes:sound-quality", "--epochs", "1", "--set", "network.hidden=[]"),
    *settings(tau=0.1, mixture=0, batch_size=10, optimizer__method="sgd"),
    *settings(optimizer__learning_rate=1.2, optimizer__schedule="inverse"),
]
ROSHAMBO = [
    *("--judge", "votes:roshambo", "--votes", "0", "--hidden", "32", "--epochs", "3000"),
    *settings(mixture=0, tau=0.01, optimizer__learning_rate=0.01, log_every=100),
    *settings(check_rows=1, geometry="natural"),
]
EPOCHS = 12
NAMES = ("sound-quality", "roshambo", "poker", "4,4", "5,4", "4,6", "8,4")


@click.command(help=__doc__)
@click.argument("names", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/votes-elsewhere"))
@click.option("--processes", type=int, default=1)
@click.option("--seeds", type=int, default=3)
@device_option
def main(names: tuple[str, ...], out: Path, processes: int, seeds: int, device: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    click.echo(f"runs: {out}", err=True)
    torch.set_num_threads(1)
    names = names or NAMES
    bar = progress(len(names) * seeds, "runs", quiet=False)
    with workers(processes) as pool, bar as shown:
        runs = {
            name: [pool.submit(_result, out, name, seed, device) for seed in range(seeds)]
            for name in names
        }
        await_all((each for mine in runs.values() for each in mine), shown)
    rows = [_cells(name, [future.result() for future in mine]) for name, mine in runs.items()]
    header = ["run", "exploitability of each seed", "mean", "of the equilibrium"]
    header += ["KL to the equilibrium", "cosine", "votes", "by OpenSpiel"]
    click.echo(markdown(header, rows))


def _cells(name: str, found: list[dict[str, Any]]) -> list[str]:
    def mean(key: str, digits: int) -> str:
        values = [each[key] for each in found if each.get(key) is not None]
        return f"{np.mean(values):.{digits}f}" if values else ""

    return [
        name,
        ", ".join(f"{each['exploitability']:.4f}" for each in found),
        mean("exploitability", 4),
        mean("equilibrium_exploitability", 4),
        mean("kl_to_equilibrium", 4),
        mean("gradient_cosine", 4),
        f"{found[0]['votes']:,.0f}" if found[0].get("votes") else "exact",
        mean("open_spiel", 4),
    ]


def _result(out: Path, name: str, seed: int, device: str) -> dict[str, Any]:
    """A run's result, of an earlier call if there is one."""
    log = out / f"{name.replace(',', '-')}-seed-{seed}.h5"
    path = log.with_suffix(".json")
    if not path.is_file():
        replace_file(path, json.dumps(_run(name, seed, device, log)).encode())
    return json.loads(path.read_text("utf-8"))


def _run(name: str, seed: int, device: str, log: Path) -> dict[str, Any]:
    if name == "poker":
        return poker(seed, log)
    if name in ("sound-quality", "roshambo"):
        return _command(SOUND if name == "sound-quality" else ROSHAMBO, seed, device, log)
    V, L = (int(part) for part in name.split(","))
    return language(V, L, seed, log)


def _command(arguments: list[str], seed: int, device: str, log: Path) -> dict[str, Any]:
    words = [sys.executable, str(CLI), "eqprop-nash", *arguments, "--seed", str(seed)]
    words += ["--device", device, "--threads", "1", "--json", "--quiet"]
    words += ["--out", str(log), "--overwrite"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout) | {"votes": float(read_run(log).table("epochs")["votes"][-1])}


def language(V: int, L: int, seed: int, log: Path, updates: int = 1500) -> dict[str, Any]:
    """Learn a language: one vote for each of 300 texts per update."""
    objective = LanguageNash(rhyme(V, L), tau=0.05, mixture=0.1)
    net = _network([objective.sight.size, 64, V], seed)
    history = _learned(
        net, objective, updates, batch_size=300, learning_rate=0.01, seed=seed, log=log
    )
    bound = objective.game.solve(objective.tau).bound
    return {**_last(history), "equilibrium_exploitability": bound}


def poker(seed: int, log: Path, updates: int = 12_000) -> dict[str, Any]:
    """Learn poker by self-play: 6,000 hands per update, one bit for each.

    The weights grow, and with a beta of 0.2 some nudged phases no longer settle. The cosine between
    the update and the gradient then falls below 0.9, and a run may jump to a policy that no longer
    changes.
    """
    objective = KuhnSelfPlay(tau=0.1, tau_end=0.005, geometry="natural")
    net = _network([11, 32, 2], seed)
    history = _learned(
        *(net, objective, updates),
        batch_size=6000,
        learning_rate=0.03,
        seed=seed,
        log=log,
        optimizer="sgd",
        beta=0.02,
    )
    even = torch.full((1, 2), 0.5).log()
    bet = policy_of(net, inputs(), even, SETTLING)[:, 1].double().exp()
    return {**_last(history), "exploitability": exploitability(bet), "open_spiel": _spiel(bet)}


def _network(sizes: list[int], seed: int) -> LeakyField:
    """A network with the weak feedback of `eqprop-nash`."""
    return LeakyField(sizes, "tanh", feedback_gain=0.2, generator=generator(seed, "weights"))


def _learned(
    net: LeakyField,
    objective: LanguageNash | KuhnSelfPlay,
    updates: int,
    *,
    batch_size: int,
    learning_rate: float,
    seed: int,
    log: Path,
    optimizer: str = "adam",
    beta: float = 0.2,
) -> History:
    """Train for EPOCHS epochs that together have so many updates, and continue what has begun."""
    return fit(
        net,
        objective.dataset(batch_size * (updates // EPOCHS)),
        objective=objective,
        epochs=EPOCHS,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        estimator=AsymEP(beta=beta, settling=SETTLING),
        rates=SLOW_FEEDBACK,
        seed=seed,
        out=log,
        resume=log.exists(),
    )


def _last(history: History) -> dict[str, Any]:
    row = vars(history.rows[-1])
    names = ("exploitability", "kl_to_equilibrium", "mixture_kl", "gradient_cosine", "votes")
    return {name: row[name] for name in names if name in row}


def _spiel(bet: torch.Tensor) -> float | None:
    """OpenSpiel's exploitability of a policy; None if OpenSpiel is not installed."""
    try:
        import pyspiel
        from open_spiel.python import policy
        from open_spiel.python.algorithms import exploitability as spiel
    except ImportError:
        return None
    game = pyspiel.load_game("kuhn_poker")
    table = policy.TabularPolicy(game)
    for name, row in table.state_lookup.items():
        p = float(bet[INFORMATION.index(name)])
        table.action_probability_array[row] = [1 - p, p]
    return float(spiel.exploitability(game, table))


if __name__ == "__main__":
    main()
