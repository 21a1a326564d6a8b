"""A method touches one file: an algorithm on tables, an objective of language models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.runlog import read_run

ROOT = Path(__file__).parents[2]
NEW = {
    "nlhf/algorithms/lazy.py": '''
from dataclasses import dataclass

from nlhf.algorithms.self_play import SelfPlay


@dataclass(frozen=True)
class Lazy(SelfPlay):
    """Self-play that rests every so many steps."""

    name = "lazy"
    rest: int = 2

    def step(self, problem, state):
        after = super().step(problem, state)
        rests = after.step % self.rest == 0
        return type(after)(state.log_pi if rests else after.log_pi, after.step)
''',
    "nlhf/language/objectives/doubled.py": '''
from dataclasses import dataclass

from nlhf.errors import InputError
from nlhf.language.objectives.inpo import INPO


@dataclass(frozen=True, kw_only=True)
class Doubled(INPO):
    """INPO's loss, times a factor."""

    name = "doubled"
    factor: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        if self.factor <= 0:
            raise InputError(f"factor={self.factor:g} must be positive")

    def loss(self, sampled, step):
        return self.factor * super().loss(sampled, step)
''',
}


def command(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    line = [sys.executable, "cli.py", "nash-md", "--quiet", *args]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_each_is_one_file_of_the_package(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    for name in ("nlhf", "bridge", "bioplaus_cli"):
        away = shutil.ignore_patterns("__pycache__", "static")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=away)
    (tmp_path / "bioplaus").symlink_to(ROOT / "bioplaus")
    shutil.copy(ROOT / "cli.py", tmp_path)
    for name, text in NEW.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b a"}\n')
    (tmp_path / "mine.py").write_text(
        "def longer(prompts, a, b):\n    return [0.5 + 0.1 * (len(x) > len(y)) - 0.1 * "
        "(len(x) < len(y)) for x, y in zip(a, b)]\n"
    )
    table = ["--game", "elo", "--iterations", "4", "--algorithm", "lazy"]
    done = command(tmp_path, *table, "--set", "method.rest=3", "--out", "t.h5")
    assert done.returncode == 0, done.stderr
    assert read_run(tmp_path / "t.h5").config["method"]["rest"] == 3
    model = ["--model", "tiny:a,b", "--prompts", "p.jsonl", "--preference", "mine:longer"]
    model += ["--iterations", "2", "--algorithm", "doubled", "--set", "method.eta=0.5"]
    model += ["--set", "generation.max_new_tokens=2"]
    done = command(tmp_path, *model, "--set", "method.factor=3.0", "--out", "m.h5")
    assert done.returncode == 0, done.stderr
    assert read_run(tmp_path / "m.h5").config["method"]["factor"] == 3.0
    done = command(tmp_path, *model, "--set", "method.factor=-1.0", "--out", "n.h5")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith("factor=-1 must be positive")
