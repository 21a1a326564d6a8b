"""Give a command bad input, and tell what was wrong with its refusal."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main

Maker = Callable[[random.Random, Path], list[str]]
"""Writes bad input into a folder, and gives the command line that reads it."""


given: Counter[str] = Counter()
"""How many inputs of each kind were given in this process."""


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file and folder, by its path."""
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)), path.read_bytes() if path.is_file() else b""


def faults(words: Sequence[str], here: Path, kind: str) -> list[str]:
    """Run a command that must print one line, exit with 2 and leave its folder as it is."""
    given[kind] += 1
    before = dict(contents(here))
    result = CliRunner().invoke(main, list(words))
    lines = result.stderr.strip().splitlines()
    wrong = []
    if result.exit_code != 2 or len(lines) != 1 or not lines[0].startswith("error: "):
        wrong.append(f"{words}: {result.exit_code} {result.exception!r} {lines[-3:]}")
    after = dict(contents(here))
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        wrong.append(f"{words}: changed {changed[:3]}")
    return wrong


def said_of(words: Sequence[str]) -> str:
    """What a command says on stderr."""
    return CliRunner().invoke(main, list(words)).stderr


def refusals(
    kind: str, make: Maker, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Pass bad inputs of a kind to commands; return what was wrong with the refusals."""
    wrong = []
    for seed in range(count):
        here = tmp_path / str(seed)
        here.mkdir()
        monkeypatch.chdir(here)
        words = make(random.Random(f"{kind} {seed}"), here)
        wrong += [f"{seed} {each}" for each in faults(words, here, kind)]
    return wrong
