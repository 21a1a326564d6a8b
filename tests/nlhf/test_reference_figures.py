"""The published reference figures come out within a factor of 2, by one command."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_reference_figures():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "nash_reference.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("T=10:") == 6
