"""Break the program on purpose, one line at a time, and check that the tests notice it.

    python -m tests.mutants              all of them
    python -m tests.mutants decoding     those whose file or text has the word

Each mutant is a line of `tests/mutants.tsv`: file, old text, new text, tests. The old text must
occur in the file exactly once. The tests must fail with the new text, and must belong to the
default suite. The tree is copied into a temporary folder; nothing is changed here.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".tsv")
COPIED = (
    "bioplaus",
    "nlhf",
    "bridge",
    "bioplaus_votes",
    "bioplaus_cli",
    "experiments",
    "tests",
    "cli.py",
    "pyproject.toml",
)
NEEDED = ("torch", "scipy.integrate", "h5py", "hypothesis", "transformers", "peft")
REPORT = "report.txt"
SECONDS = 300
"""A mutant may cause an endless loop: running for so many seconds counts as noticed."""


@dataclass(frozen=True)
class Mutant:
    """A change of one line, and the tests that should fail because of it."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.old}  ->  {self.new or '(nothing)'}"

    def applied_to(self, text: str) -> str:
        """The file's text with the change.

        Raises:
            SystemExit: the old text does not occur exactly once.
        """
        if (found := text.count(self.old)) != 1:
            raise SystemExit(f"{self}: the old text stands there {found} times; mend {LIST.name}")
        return text.replace(self.old, self.new)


def read_mutants(words: Iterable[str] = ()) -> list[Mutant]:
    """Give the mutants whose line contains one of the words; all, if there are no words."""
    words, mutants = list(words), []
    for line in LIST.read_text("utf-8").splitlines():
        if line and not line.startswith("#") and (not words or any(w in line for w in words)):
            file, old, new, tests = line.split("\t")
            mutants.append(Mutant(file, old, new, tuple(tests.split())))
    return mutants


def copy_tree(to: Path) -> None:
    """Copy the program and its tests."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)


def is_noticed(mutant: Mutant, tree: Path) -> bool:
    """Whether the tests fail in a copy of the program with the mutant."""
    path = tree / mutant.file
    text = path.read_text("utf-8")
    path.write_text(mutant.applied_to(text), "utf-8")
    try:
        return run_tests(mutant.tests, tree, SECONDS) == 1
    except TimeoutError:
        return True
    finally:
        path.write_text(text, "utf-8")


def run_tests(tests: Iterable[str], tree: Path, seconds: float | None = None) -> int:
    """Run pytest in a copy of the program; give its exit code: 0 if all pass, 1 if one fails.

    It runs in a fork: the dependencies are imported once, but the program is imported anew.

    Raises:
        TimeoutError: the tests take longer than `seconds`.
        SystemExit: pytest cannot run them.
    """
    report = tree / REPORT
    child = multiprocessing.get_context("fork").Process(target=_pytest, args=(tests, tree, report))
    child.start()
    child.join(seconds)
    if child.is_alive():
        child.kill()
        child.join()
        raise TimeoutError
    if child.exitcode not in (0, 1):
        raise SystemExit(f"pytest cannot run {' '.join(tests)}:\n{report.read_text('utf-8')}")
    return child.exitcode


def _pytest(tests: Iterable[str], tree: Path, report: Path) -> None:
    os.chdir(tree)
    sys.path[:] = [str(tree), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    own = {Path(name).stem for name in COPIED}  # already imported here, unchanged
    for name in [name for name in sys.modules if name.split(".")[0] in own]:
        del sys.modules[name]
    sys.dont_write_bytecode = True
    with report.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # imported before the fork; not part of the program, so its asserts need no rewriting
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    os._exit(pytest.main(["-q", "-x", "-n", "0", "-p", "no:cacheprovider", *quiet, *tests]))


def main(words: list[str]) -> int:
    """Try the mutants; return 1 if one survives."""
    mutants, survivors = read_mutants(words), []
    for mutant in mutants:  # before any work: the list must match the sources
        mutant.applied_to((ROOT / mutant.file).read_text("utf-8"))
    for name in NEEDED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        if run_tests(tests, tree):
            report = (tree / REPORT).read_text("utf-8")
            raise SystemExit(f"the tests fail without any mutant:\n{report}")
        for mutant in mutants:
            noticed = is_noticed(mutant, tree)
            survivors += [] if noticed else [mutant]
            print("killed  " if noticed else "SURVIVED", mutant, flush=True)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants killed")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
