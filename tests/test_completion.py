"""Shell completion under the installed name: what it offers, in which shells, how fast."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bioplaus.estimators import ESTIMATORS, ORACLES
from bioplaus.registry import added
from bioplaus_cli import completing
from nlhf.algorithms import ALGORITHMS
from nlhf.games import GAMES
from nlhf.preferences.reading.sources import SHIPPED

ROOT = Path(__file__).parents[1]
ENTRY = "import sys\nfrom bioplaus_cli.main import main\nsys.exit(main())\n"
SCRIPTS = {
    "bash": """
source /dev/stdin <<< "$(_BIOPLAUS_COMPLETE=bash_source bioplaus)"
COMP_WORDS=({line}) COMP_CWORD={last}
compopt() { echo "files:$2"; }
_bioplaus_completion bioplaus
printf '%s\\n' "${COMPREPLY[@]}"
""",
    "zsh": """
compdef() { :; }
_describe() { local -a found=("${(@P)3}"); print -l -- "${found[@]%%:*}"; }
compadd() { print -l -- "${(@P)argv[-1]}"; }
_path_files() { print files; }
eval "$(_BIOPLAUS_COMPLETE=zsh_source bioplaus)"
words=({line}) CURRENT={next}
_bioplaus_completion
""",
    "fish": """
_BIOPLAUS_COMPLETE=fish_source bioplaus | source
complete -C "{text}"
""",
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the program on the path, as an installation does."""
    program = tmp_path / "bin" / "bioplaus"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{ENTRY}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return program


def offered(shell: str, line: str) -> list[str]:
    """What a shell offers to complete the last word of a line."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    words = line.split(" ")
    script = SCRIPTS[shell].replace("{text}", line)
    quoted = " ".join(f"'{word}'" for word in words)
    script = script.replace("{line}", quoted).replace("{last}", str(len(words) - 1))
    script = script.replace("{next}", str(len(words)))
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return [found.split("\t")[0] for found in done.stdout.splitlines() if found]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_shells_offer_commands_options_and_values(shell: str, path: Path) -> None:
    assert offered(shell, "bioplaus eqprop-r") == ["eqprop-run"]
    assert offered(shell, "bioplaus runs li") == ["list"]
    assert offered(shell, "bioplaus nash-md --it") == ["--iterations"]
    assert offered(shell, "bioplaus eqprop-run --estimator asym") == ["asym-ep"]
    assert set(offered(shell, "bioplaus nash-md --game e")) == {"elo"}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_config_is_a_file(shell: str, path: Path) -> None:
    Path("mine.toml").write_text("")
    found = offered(shell, "bioplaus eqprop-run mi")
    assert found in (["files:default"], ["files"], ["mine.toml"])


def test_names_in_the_source_are_those_that_commands_know() -> None:
    packages = [entry.name for entry in added("bioplaus.estimators")]
    assert sorted(completing.estimators()) == sorted([*ESTIMATORS, *packages])
    assert sorted(completing.oracles()) == sorted(ORACLES)
    assert sorted(completing.algorithms()) == sorted(ALGORITHMS)
    assert sorted(completing.games()) == sorted([*GAMES, *SHIPPED])


def test_a_wrong_command_offers_nothing_and_says_nothing(path: Path) -> None:
    assert offered("bash", "bioplaus eqprop-rn --ep") == []


def test_nothing_heavy_is_imported(path: Path) -> None:
    watch = """import atexit, json, sys
atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))
"""
    path.write_text(f"#!{sys.executable}\n{watch}{ENTRY}")
    words = {"COMP_WORDS": "bioplaus gradcheck --oracle ", "COMP_CWORD": "3"}
    done = subprocess.run(
        [path], env={**os.environ, **words, "_BIOPLAUS_COMPLETE": "bash_complete"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "plain,implicit" in done.stdout.splitlines()
    assert not {"torch", "numpy", "pydantic", "h5py", "scipy"} & set(json.loads(done.stderr))
