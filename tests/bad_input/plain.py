"""Bad configs, tables, images, logs and command lines, each in the folder that is given."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import struct
from pathlib import Path

import h5py
import numpy as np

from tests.bad_input.noise import FINE, KEYS, VALUES, Bomb, noise, word
from tests.bioplaus.idx_files import NAMES, arrays, encode, write
from tests.bridge.records import sealed_log


def config(rng: random.Random, here: Path) -> list[str]:
    kind = rng.randrange(4)
    key, value = rng.choice(KEYS), rng.choice(VALUES)
    if kind == 0 and (key, value) not in FINE:
        data = f"{key} = {value}\n".encode()
    elif kind == 1:
        data = f"epochs = 1\n{json.dumps(word(rng))} = {rng.choice(VALUES)}\n".encode()
    elif kind == 2:
        data = b"epochs = 1\n= " + noise(rng)
    else:
        data = b"epochs = \xff" + noise(rng)
    (here / "config.toml").write_bytes(data)
    return ["eqprop-run", "config.toml"]


def table(rng: random.Random, here: Path) -> list[str]:
    rows = [["", "a", "b", "c"], *([n, ".5", ".5", ".5"] for n in "abc")]
    kind = rng.randrange(4)
    if kind == 0:
        # an empty cell or NaN is a pair that nobody compared, and the diagonal says nothing
        cell = ["x", "inf", "-1", "1e999", "2", "0x1", "1,5", "=1+1", word(rng)]
        row, column = rng.choice([(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)])
        rows[row][column] = rng.choice(cell)
    elif kind == 1:
        rows[rng.randrange(4)] = [word(rng)] * rng.randrange(5, 9)
    elif kind == 2:
        del rows[rng.randrange(1, 4)][rng.randrange(1, 4) :]
    data = "\n".join(map(",".join, rows)).encode()
    (here / "game.csv").write_bytes(b"\xff" + noise(rng) + data if kind == 3 else data)
    return ["nash-md", "--game", "game.csv"]


def images(rng: random.Random, here: Path) -> list[str]:
    content = arrays()
    write(here / "idx", content)
    role = rng.choice(list(NAMES))
    good = encode(content[role])
    rank = good[3]
    bad = [
        good[: rng.randrange(len(good))],
        good + noise(rng) + b"x",
        bytes([0, 0, rng.choice([0, 7, 10, 15, 255]), rank]) + good[4:],
        bytes([0, 0, 8, rng.choice([0, 9, 255])]) + good[4:],
        good[:4] + struct.pack(">I", rng.randrange(2**20, 2**32)) + good[8:],
        b"x" + noise(rng),
    ]
    data = rng.choice(bad)
    path = here / "idx" / NAMES[role]
    if rng.random() < 0.3:
        path.unlink()
        packed = gzip.compress(data, mtime=0)
        (here / "idx" / f"{NAMES[role]}.gz").write_bytes(packed[: rng.choice([9, -9, None])])
    else:
        path.write_bytes(data)
    return ["eqprop-run", "--dataset", "idx", "--epochs", "1"]


def log(rng: random.Random, here: Path) -> list[str]:
    path = here / "run.h5"
    kind = rng.randrange(4)
    if kind == 0:
        path.write_bytes(noise(rng))
    elif kind == 1:
        sealed_log(path, rows=2)
        path.write_bytes(path.read_bytes()[: rng.randrange(2000)])
    else:
        with h5py.File(path, "w") as file:
            file["data"] = np.frombuffer(pickle.dumps(Bomb()), np.uint8)
            link = rng.choice(["/etc/passwd", "../x.h5", "run.h5", "http://x.example/a"])
            file[rng.choice(["meta", "metrics", "weights"])] = h5py.ExternalLink(link, word(rng))
    calls = [
        ["runs", "show", "run.h5"], ["runs", "show", "run.h5", "--follow"],
        ["runs", "recover", "run.h5"], ["runs", "view", "run.h5"], ["compare", "run.h5"],
        ["runs", "export", "run.h5", "--out", "out"], ["gradcheck", "--from-run", "run.h5"],
        ["compare", "run.h5", "--report", "a.html", "--png", "pictures"],
    ]  # fmt: skip
    return rng.choice(calls)


def line(rng: random.Random, here: Path) -> list[str]:
    (here / "mine.h5").write_bytes(b"mine")
    command = rng.choice(["eqprop-run", "nash-md", "gradcheck"])
    bad = rng.choice(VALUES[:6])
    calls = [
        [word(rng)], [command, f"--{word(rng)}"], [command, "--seed", "-1"],
        [command, "--set", word(rng)], [command, "--set", f"{word(rng)}={bad}"],
        [command, "--out", "mine.h5"], [command, "--out", "mine.h5/a.h5"], [command, "--out", "."],
        [command, "--threads", "0"], [command, "--device", word(rng)],
        ["eqprop-run", word(rng)], ["eqprop-run", "--estimator", word(rng)],
        ["eqprop-run", "--hidden", bad], ["eqprop-run", "--dataset", word(rng)],
        ["nash-md", "--game", word(rng)],
        ["nash-md", "--algorithm", word(rng)], ["nash-md", "--tau", rng.choice(["x", "-1", "nan"])],
        ["nash-md", "--plot", f"no/{rng.randrange(9)}.png"], ["gradcheck", "--sizes", bad],
        ["gradcheck", "--oracle", word(rng)], ["gradcheck", "--beta", "nan"],
        ["runs", word(rng)], ["runs", "list", word(rng)], ["runs", "show", word(rng)],
        ["runs", "view", "mine.h5", "--port", "70000"], ["compare"], ["compare", word(rng)],
        ["compare", "mine.h5", "--tolerance", word(rng)], ["compare", "mine.h5", "--report", "a"],
    ]  # fmt: skip
    return rng.choice(calls)
