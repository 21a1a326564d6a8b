"""What a command imports at its start: torch only if it computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import call

ROOT = Path(__file__).parents[1]
TINY = [
    "--hidden",
    "4",
    "--epochs",
    "1",
    "--set",
    "data.train_size=20",
    "--set",
    "data.test_size=20",
]
LIST = """
import json, sys
import cli
try:
    cli.main(sys.argv[1:])
except SystemExit:
    pass
print()
large = ("torch", "numpy", "scipy", "h5py", "pandas")
print(json.dumps([name for name in large if name in sys.modules]))
"""


def imported(*arguments: str) -> list[str]:
    """Which of the large packages a command has imported by its end."""
    command = [sys.executable, "-c", LIST, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--version",
        "eqprop-run --help",
        "nash-md --help",
        "rank --help",
        "eqprop-run --epoch 3",
    ],
)
def test_help_and_typing_errors_import_nothing_large(line: str) -> None:
    assert imported(*line.split()) == []


def test_reading_a_log_needs_no_torch(tmp_path: Path) -> None:
    log = tmp_path / "a.h5"
    assert call("eqprop-run", *TINY, "--out", log).exit_code == 0
    for line in ("runs list", "runs show", "compare"):
        logs = [str(log), str(log)] if line == "compare" else [str(log)]
        found = imported(*line.split(), *(logs if line != "runs list" else [str(tmp_path)]))
        assert "torch" not in found
        assert "h5py" in found


@pytest.mark.parametrize("name", ["LeakyField", "fit"])
def test_defining_and_fitting_a_field_import_no_rarely_used_part_of_torch(name: str) -> None:
    code = f"import json, sys\nfrom bioplaus import {name}\nprint(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    rare = {"sympy", "torch.distributed.tensor", "h5py", "scipy", "click", "rich", "matplotlib"}
    assert rare.isdisjoint(json.loads(done.stdout))


@pytest.mark.slow
def test_the_benchmark_of_starting_measures_every_line() -> None:
    command = [sys.executable, "benchmarks/startup.py", "--json", "--runs", "1"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout)
    assert found["import torch"]["ratio"] == 1
    for line in ("import bioplaus", "--help", "eqprop-run --help", "runs list FOLDER"):
        assert 0 < found[line]["ratio"] < 1
