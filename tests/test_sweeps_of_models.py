"""Sweeps of commands that save models: each run saves its own, as if run alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bioplaus_cli.sweeps
from bridge.runlog import read_run
from bridge.sweep import AbstractLauncher, Job
from tests.command_line import call, refused
from tests.resuming import fingerprint

ROOT = Path(__file__).parents[1]
EXAMPLES = [{"prompt": f"a {'b ' * (i % 3)}", "completion": "c a"} for i in range(12)]
PAIRS = [{"prompt": f"why {i}", "chosen": f"good {i}", "rejected": "bad"} for i in range(20)]
SWEPT = {
    "preference-train": "learning_rate=0.001,0.01",
    "nash-md": "tau=0.1,0.5",
    "warm-start": "optimizer.learning_rate=0.001,0.01",
}


class Here(AbstractLauncher):
    """Runs the commands in this process, which has already imported the slow packages."""

    poll_seconds = 0.0

    def __init__(self) -> None:
        self.done: list[Job] = []

    def __exit__(self, *exception: object) -> None:
        pass

    @property
    def running(self) -> int:
        return len(self.done)

    def start(self, job: Job) -> None:
        program, *words = job.command[1:]
        assert Path(program).samefile(ROOT / "cli.py")
        result = call(*words)
        job.end(result.exit_code, result.stderr, False)
        self.done.append(job)

    def stop(self, at_once: bool) -> None:
        assert not self.done

    def ended(self) -> list[Job]:
        found, self.done = self.done, []
        return found


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bioplaus_cli.sweeps, "_launcher", lambda options, folder, runs: (Here(), 2))


def arguments(name: str, here: Path, steps: int = 2) -> list[object]:
    """A small run of a command, without its output paths."""
    files = {"pairs": PAIRS, "prompts": EXAMPLES[:4], "examples": EXAMPLES}
    for kind, rows in files.items():
        (here / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if name == "preference-train":
        return ["--pairs", here / "pairs.jsonl", "--epochs", steps, "--seed", 3, "--quiet"]
    pytest.importorskip("transformers")
    tiny = ["--model", "tiny:a,b,c,<end>", "--seed", 3, "--quiet"]
    if name == "warm-start":
        return [*tiny, "--examples", here / "examples.jsonl", "--epochs", steps]
    judged = ["--prompts", here / "prompts.jsonl", "--preference", "tests.trainers:longer_wins"]
    short = ["--set", "generation.max_new_tokens=2", "--iterations", steps]
    return [*tiny, *judged, *short]


@pytest.mark.slow
@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("name", SWEPT)
def test_each_run_has_its_own_model(tmp_path: Path, name: str) -> None:
    args, folder, swept = arguments(name, tmp_path), tmp_path / "many", SWEPT[name]
    result = call(name, *args, "--sweep", swept, "--out", folder)
    assert result.exit_code == 0, result.output
    key, second = swept.partition("=")[0], swept.rpartition(",")[2]
    one = tmp_path / "one.h5"
    places = ["--out", one]
    if name == "preference-train":
        places = ["--log", one, "--out", one.with_suffix("")]
    alone = call(name, *args, *places, "--set", f"{key}={second}")
    assert alone.exit_code == 0, alone.output
    reference = fingerprint(read_run(one))
    assert any(each.startswith("saved ") for each in reference)
    point = f"{key}={second}"
    assert without_card(fingerprint(read_run(folder / f"{point}.h5"))) == without_card(reference)
    index = json.loads((folder / "index.json").read_text())
    assert [entry["saved"] for entry in index["runs"]][1] == point
    assert (folder / point).is_dir()

    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if "index" not in p.name}
    again = call(name, *args, "--sweep", swept, "--out", folder, "--resume", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["runs"][1]["saved"] == str(folder / point)
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*") if "index" not in p.name}
    assert refused(call(name, *args, "--sweep", swept, "--out", folder), "exists")
    (folder / f"{point}.h5").unlink()
    assert refused(call(name, *args, "--sweep", point, "--out", folder), f"{point}: exists")
    replaced = call(name, *args, "--sweep", swept, "--out", folder, "--overwrite")
    assert replaced.exit_code == 0, replaced.output
    assert without_card(fingerprint(read_run(folder / f"{point}.h5"))) == without_card(reference)


def without_card(found: dict[str, str]) -> dict[str, str]:
    """Everything except the paths of the run itself."""
    return {name: each for name, each in found.items() if not name.endswith("README.md")}


@pytest.mark.parametrize("name", SWEPT)
def test_what_is_of_one_run_is_refused(tmp_path: Path, name: str) -> None:
    args = [*arguments(name, tmp_path), "--seeds", "0..1"]
    args = args[: args.index("--seed")] + args[args.index("--seed") + 2 :]
    out = ["--out", tmp_path / "new"]
    before = sorted(tmp_path.iterdir())
    own = "--log" if name == "preference-train" else "--save"
    assert refused(call(name, *args, *out, own, tmp_path / "x"), f"{own} is of one run")
    assert refused(call(name, *args, *out, "--sweep", "tua=1"), "unknown key 'tua'")
    assert refused(call(name, *args, *out, "--seed", 1), "seed is swept")
    assert refused(call(name, *args, "--out", tmp_path / "pairs.jsonl"), "pairs.jsonl")
    assert refused(call(name, *args, *out, "--resume", "--overwrite"), "--overwrite")
    assert sorted(tmp_path.iterdir()) == before
    saved = tmp_path / "new" / "seed=1"
    saved.mkdir(parents=True)
    (saved / "mine").write_text("x")
    assert refused(call(name, *args, *out), "seed=1", "exists")
    assert [p.name for p in (tmp_path / "new").rglob("*")] == ["seed=1", "mine"]


def test_a_sweep_is_refused_under_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    args = arguments("preference-train", tmp_path)
    out = ["--out", tmp_path / "new"]
    sweep = ["--sweep", SWEPT["preference-train"]]
    assert refused(call("preference-train", *args, *out, *sweep), "torchrun")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "nash-md" else pytest.mark.long) for n in SWEPT]
)
def test_ctrl_c_costs_no_model(tmp_path: Path, name: str) -> None:
    steps = {"preference-train": 200, "warm-start": 60, "nash-md": 40}[name]
    args = [*map(str, arguments(name, tmp_path, steps)), "--sweep", SWEPT[name], "--jobs", "2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    program = [sys.executable, "cli.py", name, *args]
    done = subprocess.run([*program, "--out", str(whole)], cwd=ROOT, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    restore = "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    # a background shell's children ignore Ctrl-C
    run = [sys.executable, "-c", restore + "os.execv(sys.argv[1], sys.argv[1:])"]
    again = [*program, "--out", str(cut), "--resume"]
    with subprocess.Popen([*run, *again], cwd=ROOT) as sweep:
        while len(list(cut.glob("*.h5"))) < 2 and sweep.poll() is None:
            time.sleep(0.02)
        sweep.send_signal(signal.SIGINT)
    assert sweep.returncode == 75
    assert subprocess.run(again, cwd=ROOT).returncode == 0
    for log in sorted(whole.glob("*.h5")):
        reference = without_card(fingerprint(read_run(log)))
        run_again = read_run(cut / log.name)
        assert (run_again.status, run_again.sealed) == ("finished", True)
        assert without_card(fingerprint(run_again)) == reference
        assert os.listdir(cut / log.stem)
