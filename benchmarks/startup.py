"""CPU time that commands and imports need to start, as a ratio to `import torch`.

    python benchmarks/startup.py [--json] [--runs 5]

Every line runs in a process of its own, in turn with `import torch`. The smallest of several
measurements counts, which keeps the influence of other work on the machine small.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = ("-c", "import torch")
LINES: dict[str, tuple[str, ...]] = {
    "import bioplaus": ("-c", "import bioplaus"),
    "from bioplaus import LeakyField, fit": ("-c", "from bioplaus import LeakyField, fit"),
    "--help": ("cli.py", "--help"),
    "--version": ("cli.py", "--version"),
    "compare --help": ("cli.py", "compare", "--help"),
    "rank --help": ("cli.py", "rank", "--help"),
    "eqprop-run --help": ("cli.py", "eqprop-run", "--help"),
    "runs list FOLDER": ("cli.py", "runs", "list", "{folder}"),
}
"""All but the second start without torch."""


def cpu_seconds(*arguments: str) -> float:
    """Run Python and return its user and system time."""
    before = os.times()
    command = [sys.executable, *arguments]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system


def measured(runs: int) -> dict[str, dict[str, float]]:
    """Measure each line `runs` times; return its seconds and its ratio to `import torch`."""
    least = dict.fromkeys(("import torch", *LINES), float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "run.h5"
        cpu_seconds(
            "cli.py", "nash-md", "--game", "rock-paper-scissors", "--quiet", "--out", str(log)
        )
        for _ in range(runs):
            for name, arguments in {"import torch": TORCH, **LINES}.items():
                given = [word.format(folder=folder) for word in arguments]
                least[name] = min(least[name], cpu_seconds(*given))
    torch = least["import torch"]
    return {name: {"cpu_s": each, "ratio": each / torch} for name, each in least.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    found = measured(arguments.runs)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, each in found.items():
        print(f"{name:40} {each['cpu_s']:.2f} s  {each['ratio']:.2f} times import torch")


if __name__ == "__main__":
    main()
