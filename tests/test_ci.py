""".ci/run passes only if each of its steps does, and names the one that did not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]

# Stands in for every program that .ci/run calls. As `python -m venv DIR` it fills DIR with itself;
# it exits with $EXIT when its call, name and arguments, starts with $FAIL.
STUB = """#!/bin/bash
call="$(basename "$0") $*"
echo "$call" >>"$CALLS"
if [[ "$call" == "pip install"* ]]; then echo "${PIP_CONSTRAINT-none}" >>"$CALLS.pins"; fi
if [[ -n "$FAIL" && "$call" == "$FAIL"* ]]; then exit "$EXIT"; fi
case "$call" in
  *"-m venv"*)
    mkdir -p "$3/bin"
    for name in python pip pytest ruff pyright lint-imports bioplaus apt-get; do
      cp "$0" "$3/bin/$name"
    done ;;
  *tomllib*) echo "one,two" ;;
  *testcase*) exec "$PYTHON3" "${@:1:2}" "$REPORT" ;;
  "pytest -rs -m"*) echo "$SKIPS" ;;
  pyright*) if [ "$SIGNAL" ]; then kill -s "$SIGNAL" "$PPID"; fi ;;
esac
"""

# A report of pytest: two files with a skipped test, once the whole file, and one without.
SKIPPING = """<testsuites><testsuite>
<testcase name="tests.a" file="tests/a.py"><skipped>no brian2</skipped></testcase>
<testcase name="test_it" file="tests/b.py"/>
<testcase name="test_it" file="tests/c d.py"><skipped>no brian2</skipped></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "stub").write_text(STUB)
    (tmp_path / "stub").chmod(0o755)
    return tmp_path


def run_ci(
    checkout: Path,
    *,
    fail: str = "",
    status: int = 1,
    skips: str = "",
    versions: str = "",
    report: str = "<testsuites/>",
    signal: str = "",
) -> tuple[int, str, list[str]]:
    """Run the copy of .ci/run on stubs; give its exit status, its output and the calls made."""
    (checkout / "report.xml").write_text(report)
    environment = os.environ | {
        "PYTHON": str(checkout / "stub"),
        "PYTHON3": sys.executable,
        "CALLS": str(checkout / "calls"),
        "FAIL": fail,
        "EXIT": str(status),
        "SKIPS": skips,
        "REPORT": str(checkout / "report.xml"),
        "SIGNAL": signal,
    }
    done = subprocess.run(
        [checkout / ".ci" / "run", *versions.split()],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, (checkout / "calls").read_text().splitlines()


def test_every_step_is_run_once(checkout: Path) -> None:
    status, output, calls = run_ci(checkout)
    assert status == 0, output
    assert "everything passed" in output
    assert calls.index("pip install .[test]") + 1 == calls.index("pytest ")
    assert "pip install -q .[one,two]" in calls
    for call in ("ruff check .", "ruff format --check .", "pyright ", "lint-imports "):
        assert calls.count(call) == 1
    assert any(call.startswith("python cli.py eqprop-run --") for call in calls)
    assert any(call.startswith("bioplaus eqprop-run --") for call in calls)


@pytest.mark.parametrize(
    ("fail", "status", "step"),
    [
        ("stub -m venv", 1, "fresh virtual environment"),
        ("pip install .[test]", 1, "the README's test command"),
        ("pytest ", 1, "the README's test command"),
        ("pytest ", 5, "the README's test command"),
        ("python -c import tomllib", 1, "every extra"),
        ("pip install -q", 1, "every extra"),
        ("ruff check", 1, "ruff check"),
        ("ruff format", 1, "ruff format"),
        ("pyright", 1, "pyright"),
        ("lint-imports", 1, "import contracts"),
        ("python cli.py eqprop-run", 1, "the README's run command, reduced"),
        ("bioplaus eqprop-run", 1, "the installed program"),
        ("python -m json.tool", 1, "the installed program"),
        ("python -m mkdocs build --strict", 1, "the documentation"),
        ("python -m docs.making.links", 1, "the documentation"),
        ("pytest -rs -m slow", 1, "the slow tests and those skipped before"),
        ("pytest -rs -m slow", 5, "the slow tests and those skipped before"),
        ("pytest -rs tests/a.py", 123, "the slow tests and those skipped before"),
    ],
)
def test_a_failing_step_fails_the_whole(checkout: Path, fail: str, status: int, step: str) -> None:
    code, output, calls = run_ci(checkout, fail=fail, status=status, report=SKIPPING)
    assert code == status
    assert f"FAILED: {step} " in output
    assert "everything passed" not in output
    assert calls[-1].startswith(fail) or step == "the installed program"


def test_files_with_skips_run_again_with_every_extra(checkout: Path) -> None:
    status, output, calls = run_ci(checkout, report=SKIPPING)
    assert status == 0, output
    assert "pytest -rs tests/a.py tests/c d.py" in calls
    assert calls.count("pytest -rs -m slow and not long and not gpu") == 1


@pytest.mark.parametrize(("signal", "code"), [("TERM", 143), ("INT", 130), ("HUP", 129)])
def test_a_signal_fails_the_whole(checkout: Path, signal: str, code: int) -> None:
    status, output, calls = run_ci(checkout, signal=signal)
    assert status == code
    assert f"FAILED: pyright (exit {code}" in output
    assert "everything passed" not in output
    assert calls[-1] == "pyright "


@pytest.mark.parametrize(
    ("skips", "code"),
    [
        ("SKIPPED [1] tests/a.py:3: could not import 'brian2': No module named 'brian2'", 1),
        ("SKIPPED [1] tests/a.py:3: needs Linux", 0),
    ],
)
def test_a_test_skipped_for_a_missing_package_fails_the_whole(
    checkout: Path, skips: str, code: int
) -> None:
    status, output, _ = run_ci(checkout, skips=skips)
    assert status == code
    assert skips in output


@pytest.mark.parametrize(
    ("versions", "pins"), [("", ".ci/constraints.txt"), ("pinned", ".ci/constraints.txt"),
                           ("newest", "none")],
)  # fmt: skip
def test_it_installs_the_pinned_versions_or_the_newest(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, versions: str, pins: str
) -> None:
    monkeypatch.setenv("PIP_CONSTRAINT", "somebody's own")
    status, output, calls = run_ci(checkout, versions=versions)
    assert status == 0, output
    assert set((checkout / "calls.pins").read_text().splitlines()) == {pins}
    assert calls[-1] == "pip freeze --exclude bioplaus"


def test_it_refuses_other_versions(checkout: Path) -> None:
    (checkout / "calls").touch()
    status, output, calls = run_ci(checkout, versions="oldest")
    assert (status, calls) == (2, [])
    assert "error: .ci/run oldest: give newest" in output


def test_the_pins_are_versions_that_the_project_admits() -> None:
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[a-zA-Z0-9.]+", pin) for pin in pins)  # and no host
    pinned = {name: Version(version) for name, version in (pin.split("==") for pin in pins)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # .ci/run leaves vllm out
    extras = [each for name, each in project["optional-dependencies"].items() if name != "vllm"]
    named = [*project["dependencies"], *(each for extra in extras for each in extra)]
    wanted = [Requirement(each) for each in named]
    for each in wanted:
        assert pinned[re.sub(r"[-_.]+", "-", each.name).lower()] in each.specifier
    torch = next(each for each in wanted if each.name == "torch")
    assert "2.13.0" in torch.specifier
