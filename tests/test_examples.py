"""The scripts in examples/: short enough to read at once, and each does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PROMPTS = str(EXAMPLES / "prompts.jsonl")
REDUCED = {
    "own_data": ["2"],
    "own_votes": [str(ROOT / "tests" / "cases" / "battles.csv"), "20"],
    "own_model_and_judge": ["tiny:yes,no", PROMPTS, "10"],
    "own_estimator": ["12"],
}
"""What makes each script quick."""


def run(name: str, folder: Path) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *REDUCED[name]]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_script_is_tried_and_has_at_most_fifteen_lines() -> None:
    scripts = {path.stem: path.read_text("utf-8") for path in EXAMPLES.glob("*.py")}
    assert scripts.keys() == REDUCED.keys()
    for text in scripts.values():
        assert len([line for line in text.splitlines() if line.strip()]) <= 15


@pytest.mark.slow
def test_a_network_learns_arrays(tmp_path: Path) -> None:
    said = run("own_data", tmp_path)
    assert "History(finished, 2 epochs" in said
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_votes_is_ranked_and_solved(tmp_path: Path) -> None:
    said = run("own_votes", tmp_path)
    assert said.startswith("Ranking(")
    largest = float(re.findall(r"\d\.\d+e-\d+|0\.", said.splitlines()[-1])[-1])
    assert largest < 1e-20


@pytest.mark.slow
def test_a_model_learns_what_a_judge_prefers(tmp_path: Path) -> None:
    said = run("own_model_and_judge", tmp_path)
    shares = [float(line.split()[-1]) for line in said.splitlines()]
    assert len(shares) == 10
    assert sum(shares[-5:]) / 5 > 0.6  # before, and without learning, it is 0.5
    assert (tmp_path / "franker" / "model.safetensors").is_file()


def test_an_estimator_is_held_against_the_gradient(tmp_path: Path) -> None:
    said = run("own_estimator", tmp_path)
    rows = [line.split() for line in said.splitlines() if " implicit " in line and " all " in line]
    errors = {row[0]: float(row[4]) for row in rows}
    assert errors["asym-ep"] < 1e-2 < errors["vector-field"]
    assert errors["signs"] > 0.1


@pytest.mark.parametrize("name", REDUCED)
def test_the_docstring_says_how_it_is_called(name: str) -> None:
    first = (EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()[0]
    assert f"python examples/{name}.py" in first
