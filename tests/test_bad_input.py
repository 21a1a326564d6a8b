"""Thousands of malformed inputs, each refused by one line, with nothing written and nothing run."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from cli import main
from nlhf.errors import InputError
from nlhf.language.comparisons import read_comparisons
from nlhf.language.prompts import read_answers, read_examples, read_prompts
from tests.bioplaus.idx_files import NAMES, arrays, encode, write
from tests.bridge.records import sealed_log

QUICK, ALL = 12, 640


class Bomb:
    """A pickle that leaves a file behind where it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


NOISE = [
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n\n", b"\x80\x04.", b"PK\x03\x04", b"\x1f\x8b\x08",
    b"\x89HDF\r\n\x1a\n", pickle.dumps(Bomb()), b"[" * 5000, b"{" * 5000, b"9" * 9000,
    b'__import__("os").system("touch executed")', b"$(touch executed)", b"../../etc/passwd",
]  # fmt: skip
VALUES = [
    '"text"', "true", "nan", "-inf", "-1", "1e400", "[]", "[[1]]", "{ a = 1 }", "1979-05-27",
    '"\\u0000"', "9" * 400, '"' + "x" * 3000 + '"', '"__import__(\\"os\\").system(\\"x\\")"',
]  # fmt: skip
# Every value above is wrong for these.
KEYS = ["epochs", "network.hidden", "optimizer.learning_rate", "data.train_size"]
FINE = {("epochs", "9" * 400), ("data.train_size", "9" * 400), ("network.hidden", "[]")}


def noise(rng: random.Random) -> bytes:
    return rng.choice([*NOISE, rng.randbytes(rng.randrange(1, 300))])


def word(rng: random.Random) -> str:
    letters = "abcxyz_-.é \\/'\"{}[]=\u202e\U0001f600"
    return "zz" + "".join(rng.choices(letters, k=rng.randrange(1, 12)))


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
        cell = ["x", "nan", "inf", "-1", "1e999", "2", "", "0x1", "1,5", "=1+1", word(rng)]
        rows[rng.randrange(1, 4)][rng.randrange(1, 4)] = rng.choice(cell)
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


KINDS: dict[str, Callable[[random.Random, Path], list[str]]] = {
    "config": config, "csv": table, "idx": images, "hdf5": log, "command line": line,
}  # fmt: skip


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)), path.read_bytes() if path.is_file() else b""


def refusals(kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make and give bad inputs of a kind; return what was wrong with their refusals."""
    wrong = []
    for seed in range(count):
        here = tmp_path / str(seed)
        here.mkdir()
        monkeypatch.chdir(here)
        words = KINDS[kind](random.Random(f"{kind} {seed}"), here)
        before = dict(contents(here))
        result = CliRunner().invoke(main, words)
        lines = result.stderr.strip().splitlines()
        if result.exit_code != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
            wrong.append(f"{seed} {words}: {result.exit_code} {result.exception!r} {lines[-3:]}")
        if dict(contents(here)) != before:
            wrong.append(f"{seed} {words}: changed its folder")
    return wrong


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_bad_inputs_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusals(kind, QUICK, tmp_path, monkeypatch) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_bad_inputs_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusals(kind, ALL, tmp_path, monkeypatch) == []


@pytest.mark.parametrize("read", [read_comparisons, read_prompts, read_answers, read_examples])
@pytest.mark.parametrize("count", [QUICK, pytest.param(ALL, marks=pytest.mark.slow)])
def test_bad_json_lines_are_refused(
    read: Callable[[Path], object], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lines.jsonl"
    for seed in range(count):
        rng = random.Random(seed)
        bad = [
            b"\xff" + noise(rng), b"x" + noise(rng), b"[1]", b"null", b'{"prompt": 1}', b"{}",
            b'{"prompt": "a", "chosen": NaN, "rejected": []}', b'{"prompt": "' + b"a" * seed,
        ]  # fmt: skip
        path.write_bytes(rng.choice(bad))
        with pytest.raises(InputError) as caught:
            read(path)
        assert len(str(caught.value).splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["lines.jsonl"]
