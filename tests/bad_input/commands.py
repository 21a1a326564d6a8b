"""Bad command lines of every command, most of them names of what is not there or must stay."""

from __future__ import annotations

import random
from pathlib import Path

from tests.bad_input import models
from tests.bad_input.noise import VALUES, word
from tests.bridge.records import sealed_log

LONG = "x" * 5000
NOWHERE = ["nowhere", "mine.h5/x", LONG, "a/" + LONG, "a\0b", "\udcff", "nowhere/\n\x1b[2J", "..",
           "/", "/dev/zero", "mine"]  # fmt: skip
"""Names of nothing that a command could read."""
TAKEN = ["mine.h5/x", LONG, "a\0b", "\udcff", "..", "/"]
"""Names of nothing that a command may write; beside these, a file or a folder that is there."""

JUDGE = models.JUDGE
MODEL = ["--model", "tiny:a,b,<end>", "--prompts", "prompts.jsonl", *JUDGE, "--iterations", "1"]
TRAIN = ["preference-train", "--pairs", "pairs.jsonl", "--epochs", "1"]
PLAY = [
    "tournament",
    "--quiet",
    "--policies",
    "answers.jsonl",
    "others.jsonl",
    "--prompts",
    "prompts.jsonl",
]
WARM = ["warm-start", "--model", "tiny:a,b,<end>", "--examples", "examples.jsonl"]

READ = [
    ["nash-md", *MODEL, "--model", "?"], ["nash-md", *MODEL, "--prompts", "?"],
    ["nash-md", *MODEL, "--preference", "?"], ["nash-md", "?"],
    [*TRAIN, "--out", "o", "--pairs", "?"], [*TRAIN, "--out", "o", "--model", "?"],
    [*PLAY, *JUDGE, "--policies", "?"], [*PLAY, *JUDGE, "--prompts", "?"],
    [*PLAY, "--preference", "?"], [*WARM, "--model", "?"], [*WARM, "--examples", "?"],
    [*WARM, "--held-out", "?"], ["export", "?", "--nir", "o.nir"], ["runs", "recover", "?"],
    ["runs", "recover", "good.h5", "?"], ["runs", "show", "?"], ["runs", "view", "?"],
    ["runs", "export", "?", "--out", "o"], ["compare", "good.h5", "?"], ["eqprop-run", "?"],
    ["eqprop-run", "--dataset", "?"], ["gradcheck", "--from-run", "?"], ["nash-md", "--game", "?"],
    ["eqprop-nash", "?"], ["eqprop-nash", "--dataset", "?"], ["eqprop-nash", "--judge", "?"],
]  # fmt: skip
WRITE = {
    "mine.h5": [
        ["nash-md", *MODEL, "--out", "?"], ["nash-md", *MODEL, "--save", "?"],
        ["nash-md", *MODEL, "--resume", "--out", "?"], [*TRAIN, "--out", "?"],
        [*TRAIN, "--out", "o", "--log", "?"], [*TRAIN, "--out", "o", "--resume", "--log", "?"],
        [*PLAY, *JUDGE, "--out", "?"], [*WARM, "--out", "?"], [*WARM, "--save", "?"],
        ["corpus", "docstrings", "--out", "?"], ["runs", "export", "good.h5", "--out", "?"],
        ["compare", "good.h5", "--png", "?"], ["eqprop-run", "--resume", "--out", "?"],
        ["nash-md", "--out", "?"], ["gradcheck", "--out", "?"], ["eqprop-nash", "--out", "?"],
    ],
    "mine": [
        ["nash-md", *MODEL, "--save", "?"], [*TRAIN, "--out", "?"], [*WARM, "--save", "?"],
        ["corpus", "docstrings", "--out", "?"], ["runs", "export", "good.h5", "--out", "?"],
        ["compare", "good.h5", "--png", "?"], ["compare", "good.h5", "--report", "?"],
        ["eqprop-run", "--out", "?"], ["nash-md", *MODEL, "--out", "?"],
    ],
}  # fmt: skip
SEEDS = ["", "x", "1..", "..1", "2..1", "-1", "0..99999999999", "0,0", "1.5", "0..1..2", "٣",
         "1e3"]  # fmt: skip
SWEEPS = [
    "",
    "tau",
    "tau=",
    "=1",
    "tau=1,,2",
    "tau=1,1",
    "tau=x",
    "nope=1",
    "tau=-1",
    "tau=[1",
    "a=b=c",
]
SPECS = ["tiny:", "tiny:a", "tiny:a,a", "tiny:a,,b", "tests.trainers:nothing", "nowhere:f", ":",
         "a:", ":f", "os:system:x", "json:decoder", "..:x", "tests.trainers:"]  # fmt: skip


def wrong_option(rng: random.Random) -> list[str]:
    """An unknown option, or an option with an illegal value."""
    odd = word(rng)
    both = rng.choice(["eqprop-run", "nash-md"])
    runner = rng.choice([["nash-md", *MODEL], [*TRAIN, "--out", "o"], WARM])
    calls = [
        [*runner, f"--{odd}"], [*runner, "--set", odd], [*runner, "--set", f"{odd}=1"],
        [*runner, "--checkpoint-every", rng.choice(["0", "-1", "x", "1.5"])],
        [*runner, "--threads", rng.choice(["0", "x"])],
        [*runner, "--seed", rng.choice(["-1", "x"])],
        [*runner, "--resume"], [*runner, "--resume", "--overwrite"], [*runner, odd, odd],
        [*runner, "--set", f"optimizer={rng.choice(VALUES[:8])}"],
        ["eqprop-run", "--seeds", "0..1", "--out", "mine.h5"],
        ["nash-md", "--sweep", "tau=1,2", "--out", "mine.h5"],
        [*runner, "--set", rng.choice(["model=\"\\u0000\"", "seed=1.5"])],
        [*runner, "--device", odd],
        [both, "--seeds", rng.choice(SEEDS)],
        ["nash-md", "--sweep", rng.choice(SWEEPS)],
        [both, "--jobs", rng.choice(["0", "x", "-1", "2"])],
        [both, "--seeds", "0..1", "--seed", "1"], [both, "--seeds", "0,1", "--sweep", "seed=1"],
        [both, "--launcher", odd], [both, "--launcher", "slurm"], [both, "--slurm", "time=60"],
        [both, "--seeds", "0..1", "--launcher", "slurm", "--slurm", "x"],
        ["nash-md", *MODEL, "--game", "roshambo"], ["nash-md", "--prompts", "prompts.jsonl"],
        ["nash-md", *MODEL, "--preference", rng.choice(SPECS[4:])],
        ["nash-md", *MODEL, "--model", rng.choice(SPECS[:4])],
        ["nash-md", *MODEL, "--algorithm", odd], ["nash-md", *MODEL, "--iterations", "0"],
        [*TRAIN, "--out", "o", "--head", odd], [*TRAIN], [*TRAIN, "--out", "o", "--tune", "full"],
        [*TRAIN, "--out", "o", "--model", rng.choice(SPECS[:4])],
        [*PLAY], [*PLAY[:4], *PLAY[5:], *JUDGE], [*PLAY, *JUDGE, "--policies", "answers.jsonl"],
        [*PLAY, "--preference", rng.choice(SPECS[4:])], [*PLAY, *JUDGE, "--set", "draws=0"],
        ["corpus", odd], ["corpus", "docstrings"],
        ["corpus", "docstrings", "--seed", "x"],
        ["export", "good.h5"], ["export", "good.h5", "--nir", "o.nir"], ["export"],
        ["export", "good.h5", "--nir", "o.nir", "--tau", rng.choice(["x", "-1 s", "nan s"])],
        ["runs", "export", "good.h5", "--out", "o", "--format", odd],
        ["runs", "export", "good.h5", "--out", "o", "--table", odd],
        ["runs", "show", "good.h5", "--metric", odd], ["runs", "recover"],
        ["runs", "show", "good.h5", "--follow", "--interval", "0"],
        ["runs", "view", "good.h5", "--port", rng.choice(["x", "-1", "65536"])],
        [*WARM, "--epochs", rng.choice(["x", "1.5"])], [*WARM, "--set", "holdout=1"],
    ]  # fmt: skip
    return rng.choice(calls)


def line(rng: random.Random, here: Path) -> list[str]:
    """A command line that must be refused, in a folder of files that it might read or destroy."""
    models.texts(here)
    (here / "mine.h5").write_bytes(b"mine")
    (here / "mine").mkdir()
    (here / "mine" / "notes.txt").write_text("mine")
    sealed_log(here / "good.h5", rows=2)
    kind = rng.randrange(3)
    if kind == 0:
        return wrong_option(rng)
    if kind == 1:
        words, name = rng.choice(READ), rng.choice(NOWHERE)
    else:
        there = rng.choice(list(WRITE))
        words, name = rng.choice(WRITE[there]), rng.choice([there, there, *TAKEN])
    return [name if each == "?" else each for each in words]
