"""Runs as jobs: small sweeps through submitit's local executor, and the parameters for Slurm."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.errors import InputError, RunFailed, Stopped, StorageError
from bridge.runlog import read_run
from bridge.sweep import Job, run_jobs
from bridge.sweep.attend import attend
from tests.command_line import call, refused
from tests.resuming import fingerprint, same_as

pytest.importorskip("submitit")
from bridge.sweep.slurm import Slurm, parse_parameters

ROOT = Path(__file__).parents[1]
NASH = ["--game", "rock-paper-scissors", "--set", "votes=5", "--quiet"]
HERE = ["--launcher", "slurm", "--slurm", "cluster=local", "--slurm", "time=5"]
LOCAL = {"cluster": "local", "time": "5"}


def python(text: str) -> list[str]:
    """A process that runs a few lines of Python."""
    return [sys.executable, "-S", "-c", text]


def jobs(folder: Path, *texts: str) -> list[Job]:
    """One job per text; none leaves a log."""
    return [Job(folder / f"{i}.h5", {"seed": i}, python(t)) for i, t in enumerate(texts)]


def run_here(many: list[Job], folder: Path, parameters: dict[str, str] = LOCAL) -> None:
    run_jobs(many, folder, "test", Slurm(folder, parameters, 1), parallel=8)


@pytest.mark.slow
def test_how_jobs_fail(tmp_path: Path) -> None:
    bad = "import sys; print('error: no such data', file=sys.stderr); sys.exit(2)"
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    odd = "import os, sys; sys.exit(75 if os.environ['OMP_NUM_THREADS'] == '1' else 1)"
    a, b, c = (tmp_path / name for name in "abc")
    with pytest.raises(InputError, match=r"^0\.h5: no such data \(2 of 2 runs failed"):
        run_here(jobs(a, bad, bad), a)
    many = jobs(b, killed, bad, odd)
    with pytest.raises(RunFailed, match="exit code -9"):
        run_here(many, b)
    assert [job.exit_code for job in many] == [-9, 2, 75]
    with pytest.raises(StorageError, match=r"0\.h5"):
        run_here(jobs(c, "raise SystemExit(74)"), c)


def test_a_keeper_that_is_killed_is_a_failure(tmp_path: Path) -> None:
    text = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    with pytest.raises(RunFailed, match=r"^0\.h5: job \d+ ended as"):
        run_here(jobs(tmp_path, text), tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_reaches_the_command_once(tmp_path: Path, number: int) -> None:
    """The signals of preemption and of a time limit; one that Slurm sends twice counts once."""
    text = f"""
import os, signal, sys, time
assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
came = []
signal.signal(signal.SIGTERM, lambda n, f: came.append(n))
for _ in range(2): os.kill(os.getppid(), {int(number)})
while not came: time.sleep(0.01)
time.sleep(0.2)
print("error:", came, file=sys.stderr)
sys.exit(75)
"""
    report = tmp_path / "report.json"
    keeper = (
        f"from bridge.sweep.attend import attend; attend({python(text)}, {{}}, {str(report)!r})"
    )
    assert subprocess.run([sys.executable, "-c", keeper], cwd=ROOT).returncode == 0
    found = json.loads(report.read_text())
    assert found == {"exit_code": 75, "said": "error: [15]\n", "signalled": True}


def test_a_command_without_a_handler_counts_as_stopped(tmp_path: Path) -> None:
    text = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    many = jobs(tmp_path, text)
    with pytest.raises(Stopped, match="0 of 1"):
        run_here(many, tmp_path)
    assert (many[0].status, many[0].exit_code) == ("stopped", -signal.SIGTERM)


def test_only_json_is_read_back(tmp_path: Path) -> None:
    """A report that another program left is not taken for this job's, nor is a pickle read."""
    folder = tmp_path / "submitit"
    folder.mkdir()
    (folder / "0.json").write_text('{"exit_code": 0, "said": "", "signalled": false}')
    many = jobs(tmp_path, "raise SystemExit('error: mine')")
    with pytest.raises(RunFailed, match="mine"):
        run_here(many, tmp_path)
    (results,) = folder.glob("*_0_result.pkl")
    assert b"mine" not in results.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_jobs(tmp_path: Path, number: int) -> None:
    say = f"import pathlib, os, time, signal; here = pathlib.Path({str(tmp_path)!r})\n"
    stop = "signal.signal(signal.SIGTERM, lambda *_: os._exit(75))\n"
    wait = "(here / str(os.getpid())).touch(); time.sleep(60)"
    many = jobs(tmp_path / "out", say + stop + wait, say + wait)
    watch = f"""
import os, pathlib, time
while len(list(pathlib.Path({str(tmp_path)!r}).glob("[0-9]*"))) < 2: time.sleep(0.05)
os.kill({os.getpid()}, {int(number)})
"""
    with subprocess.Popen(python(watch)) as watcher:
        with pytest.raises(Stopped, match="0 of 2 runs are finished; go on with --resume --out"):
            run_here(many, tmp_path / "out")
        watcher.wait()
    assert [(job.status, job.exit_code) for job in many] == [("stopped", 75), ("stopped", -15)]
    for path in tmp_path.glob("[0-9]*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


@pytest.mark.slow
def test_a_sweep_of_jobs_is_its_runs(tmp_path: Path) -> None:
    """Stopped by Ctrl-C with exit code 75 and continued: the rows of uninterrupted runs."""
    log_less = ["--set", "log_every=500", "--iterations", "4000", "--seeds", "0..1"]
    program = [sys.executable, "cli.py", "nash-md", *NASH, *log_less]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert subprocess.run([*program, "--out", str(whole)], cwd=ROOT).returncode == 0
    restore = "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    run = [sys.executable, "-c", restore + "os.execv(sys.argv[1], sys.argv[1:])"]
    again = [*program, *HERE, "--out", str(cut), "--resume"]
    with subprocess.Popen([*run, *again], cwd=ROOT) as sweep:
        while len(list(cut.glob("*.h5"))) < 2 and sweep.poll() is None:
            time.sleep(0.02)
        sweep.send_signal(signal.SIGINT)
    assert sweep.returncode == 75
    index = json.loads((cut / "index.json").read_text())
    assert {entry["status"] for entry in index["runs"]} <= {"stopped", "finished"}
    assert all(entry["job_id"] for entry in index["runs"])
    # the package is found from any folder
    program[1] = str(ROOT / "cli.py")
    again = [*program, *HERE, "--out", str(cut), "--resume"]
    done = subprocess.run(again, cwd=tmp_path, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    for name in ("seed=0.h5", "seed=1.h5"):
        assert same_as(cut / name, fingerprint(read_run(whole / name)))


def cluster(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> Path:
    """Stand-ins for Slurm's programs that note their calls; gives the file of the calls."""
    calls = folder / "calls"
    programs = {"srun": "", "sacct": "", "scancel": ""} | programs
    for name, body in programs.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\n{body}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return calls


# Runs the script as a node would, and what it starts there as one of its tasks.
SUBMIT = """
id=$((100 + $(grep -c '^sbatch' {calls})))
cp "$1" {here}/script-$id.sh
echo "Submitted batch job $id"
SLURM_JOB_ID=$id SLURM_PROCID=0 setsid sh "$1" > /dev/null 2>&1 &
"""
RUN = 'while [ "$1" != "" ]; do case "$1" in --output|--error) shift 2;; --*) shift;; *) break;; esac; done; exec "$@"'  # noqa: E501


def test_what_slurm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, folder = tmp_path / "bin", tmp_path / "runs"
    here.mkdir()
    script = SUBMIT.format(calls=here / "calls", here=here)
    calls = cluster(here, monkeypatch, sbatch=script, srun=RUN)
    texts = ["partition=gpu", "time=01:30:00", "mem=4GB", "cpus-per-task=3", "setup=true"]
    many = jobs(folder, *["raise SystemExit(75)"] * 2)
    with pytest.raises(Stopped, match="0 of 2"):
        run_jobs(many, folder, "test", Slurm(folder, parse_parameters(texts), 1), parallel=8)
    assert [(job.job_id, job.exit_code) for job in many] == [("101", 75), ("102", 75)]
    text = (here / "script-101.sh").read_text()
    for option in (
        "--partition=gpu", "--time=01:30:00", "--mem=4GB", "--cpus-per-task=3", "--no-requeue",
        "--job-name=sweep", "--signal=USR2@90", "--nodes=1",
    ):  # fmt: skip
        assert f"#SBATCH {option}\n" in text
    assert "\ntrue\nexport PYTHONPATH=" in text
    assert f"{folder}/submitit/" in text
    assert "--array" not in text
    assert calls.read_text().count("sbatch") == 2


def test_cancelled_jobs_count_as_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs wait in the queue: only Slurm knows their state."""
    here, folder = tmp_path / "bin", tmp_path / "runs"
    here.mkdir()
    state = 'echo "JobID|State|NodeList"; echo "101|CANCELLED by 0|None"'
    told = f'[ -e {here}/gone ] && {{ {state}; }} || echo "JobID|State|NodeList"'
    submit = f'echo "Submitted batch job 101"; kill -TERM {os.getpid()}'
    programs = {"sbatch": submit, "sacct": told, "scancel": f"touch {here}/gone"}
    calls = cluster(here, monkeypatch, **programs)
    monkeypatch.setattr("bridge.sweep.slurm._ASK_SECONDS", 0.1)
    many = jobs(folder, "pass", "pass")
    with pytest.raises(Stopped, match="0 of 2"):
        run_jobs(many, folder, "test", Slurm(folder, {"time": "5"}, 1), parallel=8)
    assert [job.status for job in many] == ["stopped", "waiting"]
    assert "scancel 101" in calls.read_text()


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("TIMEOUT", Stopped, "0 of 1"),
        ("PREEMPTED", Stopped, "0 of 1"),
        ("NODE_FAIL", Stopped, "0 of 1"),
        ("OUT_OF_MEMORY", RunFailed, "job 101 ended as OUT_OF_MEMORY"),
        ("FAILED", RunFailed, "job 101 ended as FAILED"),
    ],
)
def test_a_job_without_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, kind: type[Exception], words: str
) -> None:
    here = tmp_path / "bin"
    here.mkdir()
    told = f'echo "JobID|State|NodeList"; echo "101|{state}|None"'
    cluster(here, monkeypatch, sbatch='echo "Submitted batch job 101"', sacct=told)
    monkeypatch.setattr("bridge.sweep.slurm._ASK_SECONDS", 0.01)
    # submitit's memory of jobs outlives a sweep; so do real ids
    __import__("submitit").SlurmJob.watcher.clear()
    folder = tmp_path / "runs"
    with pytest.raises(kind, match=words):
        run_jobs(jobs(folder, "pass"), folder, "test", Slurm(folder, {"time": "5"}, 1), parallel=8)


def test_a_cluster_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "bin"
    here.mkdir()
    cluster(here, monkeypatch, sbatch='echo "sbatch: error: invalid partition" >&2; exit 1')
    sweep = ["--seeds", "0..1", "--launcher", "slurm", "--slurm", "time=5", "--out"]
    result = call("nash-md", *NASH, *sweep, tmp_path / "runs")
    assert result.exit_code == 1, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert "not submitted" in result.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--slurm", "time=5"], "--launcher slurm"),
        (["--launcher", "local", "--slurm", "time=5"], "--launcher slurm"),
        (["--launcher", "pbs"], "pbs"),
        (["--launcher", "slurm"], "there is no srun here"),
        (["--launcher", "slurm", "--slurm", "cluster=local"], "time=MINUTES"),
        ([*HERE, "--slurm", "time=6"], "twice"),
        ([*HERE, "--slurm", "partiton=a"], "did you mean 'partition'"),
        ([*HERE, "--slurm", "nodes=2"], "cannot be set"),
        ([*HERE, "--slurm", "cpus_per_task=two"], "must be a int"),
        ([*HERE, "--slurm", "mem_gb=x"], "mem_gb=x"),
        ([*HERE, "--slurm", "partition"], "key=value"),
        ([*HERE, "--slurm", "=x"], "key=value"),
        ([*HERE, "--slurm", "comment=a\nb"], "key=value"),
        (["--launcher", "slurm", "--slurm", "cluster=debug", "--slurm", "time=5"], "cluster=debug"),
        (["--launcher", "slurm", "--slurm", "cluster=local", "--slurm", "time=1:0:0"], "minutes"),
    ],
)
def test_refused_before_anything_is_written(tmp_path: Path, more: list[str], words: str) -> None:
    line = ["nash-md", *NASH, "--seeds", "0..1", "--out", tmp_path / "new", *more]
    assert refused(call(*map(str, line)), words)
    assert not list(tmp_path.iterdir())


def test_a_launcher_is_for_many_runs(tmp_path: Path) -> None:
    out = ["--out", tmp_path / "a.h5"]
    assert refused(call("nash-md", *NASH, *out, "--launcher", "slurm"), "--launcher is for many")
    assert refused(call("eqprop-run", *out, "--slurm", "time=5"), "--launcher slurm")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    line = ["nash-md", *NASH, "--seeds", "0..1", "--out", tmp_path / "new", *HERE]
    assert refused(call(*map(str, line)), "submitit is not installed", "bioplaus[slurm]")
    assert not list(tmp_path.iterdir())


def test_the_keeper_gives_the_environment(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        attend(
            python("import os; raise SystemExit(int(os.environ['CODE']))"),
            {"CODE": "7"},
            str(report),
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert json.loads(report.read_text()) == {"exit_code": 7, "said": "", "signalled": False}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
