"""The cost of ranking, from the file to the verdict.

    python benchmarks/rank.py [--repeat N] [--json]

CPU time (user and system) of `python cli.py rank FILE --bootstrap 1000` in its own process with one
thread, including the start of Python and the imports; and that of `import torch` alone.

- `battles`: 140,000 simulated battles of 53 models whose scores have a spread of 0.5, as a CSV of
  `model_a,model_b,winner`.
- `votes`: the shipped human votes, five tables.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CLI = Path(__file__).parent.parent / "cli.py"
MODELS, BATTLES, SPREAD = 53, 140_000, 0.5


def write_battles(path: Path) -> Path:
    """Write battles between two random models, won according to their scores; no ties."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0, SPREAD, MODELS)
    a = rng.integers(0, MODELS, BATTLES)
    b = (a + rng.integers(1, MODELS, BATTLES)) % MODELS
    won = rng.random(BATTLES) < 1 / (1 + np.exp(scores[b] - scores[a]))
    with path.open("w") as file:
        file.write("model_a,model_b,winner\n")
        for one, other, first in zip(a, b, won, strict=True):
            file.write(f"model-{one},model-{other},{'model_a' if first else 'model_b'}\n")
    return path


def cpu_seconds(*command: str) -> float:
    """User and system time of a process, which must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rank = [str(CLI), "rank", "--bootstrap", "1000", "--quiet", "--out", f"{folder}/rank.h5"]
        battles = write_battles(Path(folder) / "battles.csv")
        calls = {
            "import torch": ["-c", "import torch"],
            "battles": [*rank, "--overwrite", str(battles)],
            "votes": [*rank, "--overwrite", "sound-quality"],
        }
        found = {
            name: [round(cpu_seconds(*call), 2) for _ in range(arguments.repeat)]
            for name, call in calls.items()
        }
    if arguments.json:
        print(json.dumps(found))
        return
    for name, seconds in found.items():
        print(f"{name:12} {' '.join(map(str, seconds))} CPU s")


if __name__ == "__main__":
    main()
