"""Every training command resumes bit for bit, from any step, however it ended."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.checkpoint import checkpoints
from bridge.runlog import RunLog, read_run
from bridge.runlog.provenance import provenance
from bridge.session import Session, checkpoint_folder
from tests.bioplaus import idx_files
from tests.command_line import call, refused
from tests.resuming import command, end_at, end_while_opening, fingerprint, same_as
from tests.test_cli_preference import small_model

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")

# Everything that has a state: momentum, a schedule, random nudges, a short last batch, checks.
EQPROP = ["--epochs", 2, "--hidden", 8, "--set", "batch_size=9", "--nudging", "random-sign"]
EQPROP += ["--set", "optimizer.method=adam", "--set", "optimizer.learning_rate=0.003"]
EQPROP += ["--set", "network.activation=tanh", "--set", "network.coordinates=membrane"]
EQPROP += ["--check-gradients-every", 5, "--seed", 3]
# Noisy votes, a method that remembers, a temperature that falls, rows that are not every step's.
NASH = ["--game", "rock-paper-scissors", "--algorithm", "nash-ema", "--iterations", 10]
NASH += ["--set", "votes=5", "--set", "tau_start=0.5", "--set", "log_every=3", "--seed", 3]
# Several epochs, a short last batch, an epoch that is the best so far, rates that change.
PREFERENCE = ["--epochs", 2, "--set", "batch_size=6", "--set", "log_every=3", "--seed", 3]
# A mean policy, a learned baseline, and measures beside the rows.
MODEL = ["--model", "tiny:a,b,c", "--preference", "tests.trainers:longer_wins", "--seed", 3]
MODEL += ["--iterations", 10, "--set", "generation.max_new_tokens=2", "--set", "batch_size=3"]
MODEL += ["--set", "log_every=3", "--set", "tau_start=0.5"]
EMA = ["--algorithm", "nash-ema", "--set", "baseline=learned", "--set", "measure_exact=true"]
LORA = ["--set", "lora.rank=2", "--set", "lora.dropout=0.2", "--algorithm", "extragradient"]
LORA += ["--set", "quantise=4bit"]
# A share held out, a short last batch, passes that are added up, an adapter that is merged.
WARM = ["--model", "tiny:a,b,c,<end>", "--epochs", 2, "--set", "holdout=0.3", "--seed", 3]
WARM += ["--set", "batch_size=1", "--set", "accumulation=2", "--set", "log_every=3"]
WARM += ["--set", "lora.rank=2", "--set", "lora.dropout=0.2"]
WARM += ["--set", "optimizer.schedule=cosine"]
# Ten comparisons, some of random nudges.
CHECK = ["--sizes", "6,8,4", "--batch", 3, "--beta", 0.01, "--beta", 0.05, "--seed", 3]
CHECK += ["--nudging", "random-sign", "--oracle", "implicit", "--oracle", "recurrent-backprop"]
for estimator in ("vector-field", "asym-ep", "dyadic", "holomorphic", "continual"):
    CHECK += ["--estimator", estimator]
# Eight batches of answers, then two of comparisons.
PLAY = ["--policies", "tiny:a,b,c", "tiny:a,b,<end>", "--seed", 3, "--set", "draws=20"]
PLAY += ["--preference", "tests.trainers:longer_wins", "--set", "batch_size=1"]
PLAY += ["--set", "generation.max_new_tokens=3"]
SLOW = ("preference-train lora", "nash-md lora")
SLOW += ("preference-train", "warm-start", "gradcheck", "tournament")
STEPS = {"eqprop-run": 10, "nash-md": 10, "preference-train": 10, "nash-md model": 10}
STEPS["warm-start"] = STEPS["gradcheck"] = STEPS["tournament"] = 10
STEPS |= dict.fromkeys(SLOW, 10)
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in STEPS]


def line(name: str, path: Path) -> list[str]:
    """A command, and where it writes; a model goes into a folder beside the log."""
    if name.startswith("preference-train"):
        return [
            "preference-train",
            "--out",
            f"{path.with_suffix('')}",
            "--log",
            f"{path}",
            "--quiet",
        ]
    return [name.split()[0], "--out", f"{path}", "--quiet"]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """A small run of each training command."""
    images = idx_files.noise(tmp_path_factory.mktemp("data") / "images")
    # Forks inherit what is done once: git asked, and what torch's optimizers import late.
    provenance()
    importlib.import_module("bioplaus.training")
    importlib.import_module("nlhf.training")
    importlib.import_module("torch._dynamo")
    made = {"eqprop-run": ["--dataset", images, *EQPROP], "nash-md": NASH, "gradcheck": CHECK}
    pairs = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    asked = [{"prompt": f"why {i}", "chosen": "good " * (i % 3 + 1), "rejected": f"bad {i % 4}"}
             for i in range(39)]  # fmt: skip
    pairs.write_text("".join(json.dumps(each) + "\n" for each in asked))
    made["preference-train"] = ["--pairs", pairs, *PREFERENCE]
    if importlib.util.find_spec("transformers"):
        importlib.import_module("transformers.models.llama.modeling_llama")
        prompts = pairs.with_name("prompts.jsonl")
        prompts.write_text("".join(f'{{"prompt": "{x}"}}\n' for x in ("a", "b a", "c", "a a b")))
        made["nash-md model"] = ["--prompts", prompts, *MODEL, *EMA]
        made["tournament"] = ["--prompts", prompts, *PLAY]
        if importlib.util.find_spec("peft"):
            importlib.import_module("peft")
            importlib.import_module("bitsandbytes")
            said = [{"prompt": p, "completion": c} for p in ("a", "b", "c", "a b") for c in "abc"]
            examples = pairs.with_name("examples.jsonl")
            examples.write_text("".join(json.dumps(each) + "\n" for each in said))
            made["warm-start"] = ["--examples", examples, *WARM]
            made["nash-md lora"] = ["--prompts", prompts, *MODEL, *LORA]
            small = small_model("causal", pairs.with_name("small"))
            more = ["--model", small, "--tune", "lora"]
            made["preference-train lora"] = [*made["preference-train"], *more]
    return made


@pytest.fixture(scope="module")
def references(
    tmp_path_factory: pytest.TempPathFactory, arguments: dict[str, list[object]]
) -> dict[str, dict[str, str]]:
    """What uninterrupted runs leave."""
    folder, found = tmp_path_factory.mktemp("whole"), {}
    for name, args in arguments.items():
        path = folder / f"{name}.h5"
        assert command([*line(name, path), *args]) == 0
        found[name] = fingerprint(read_run(path))
    return found


def interrupted(
    name: str, args: Sequence[object], path: Path, step: int, number: int, saved: bool
) -> None:
    """Run until a step, end it there by a signal, and go on."""
    every = 1 if saved else 4
    run = [*line(name, path), *args, "--checkpoint-every", every]
    code = command(run, end_at(step, number, saved))
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 75)
    if number != signal.SIGKILL:
        assert read_run(path).status == "stopped"
        assert read_run(path).sealed
    assert command([*line(name, path), "--resume"]) == 0


def skip_without_extras(name: str, arguments: dict[str, list[object]]) -> None:
    if name not in arguments:
        pytest.skip("transformers or peft is not installed")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("number", "saved", "every"),
    [
        (signal.SIGKILL, False, 4),
        (signal.SIGTERM, True, 5),
        pytest.param(signal.SIGKILL, False, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, True, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, 4, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, False, 4, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, False, 4, marks=pytest.mark.slow),
    ],
)
def test_goes_on_bit_for_bit_from_every_step(
    arguments: dict[str, list[object]],
    references: dict[str, dict[str, str]],
    tmp_path: Path,
    name: str,
    number: int,
    saved: bool,
    every: int,
) -> None:
    skip_without_extras(name, arguments)
    if name in ("nash-md model", "tournament"):
        every = max(every, 3)  # the slowest that are not marked so
    for step in range(1 + every // 2, STEPS[name] + 1, every):
        path = tmp_path / f"{step}.h5"
        interrupted(name, arguments[name], path, step, number, saved)
        assert same_as(path, references[name])


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_after_many_ends_and_past_damage(
    arguments: dict[str, list[object]],
    references: dict[str, dict[str, str]],
    tmp_path: Path,
    name: str,
) -> None:
    skip_without_extras(name, arguments)
    path = tmp_path / "run.h5"
    args = [*line(name, path), *arguments[name], "--checkpoint-every", 2, "--resume"]
    assert command(args, end_at(5, signal.SIGKILL, False)) == -signal.SIGKILL
    assert call("runs", "recover", path).exit_code == 0
    assert command(args, end_at(9, signal.SIGKILL, True)) == -signal.SIGKILL
    newest, older = checkpoints(checkpoint_folder(path))
    assert (newest.name, older.name) == ("step-000000000008", "step-000000000006")
    tensors = newest / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    copy = tmp_path / "copy.h5"
    shutil.copy(path, copy)
    shutil.copytree(checkpoint_folder(path), checkpoint_folder(copy))
    result = call(*line(name, copy), "--resume")
    assert result.exit_code == 0
    assert "tensors.safetensors is damaged; an older one is used" in result.stderr
    assert same_as(copy, references[name])
    assert command(args, end_at(10, signal.SIGTERM, True)) == 75
    assert command(args) == 0
    assert same_as(path, references[name])
    # A finished run stays as it is, and prints its summary again.
    before = path.read_bytes()
    said = json.loads(call(*args, "--json").stdout)
    assert len(said) > 1
    assert said["log"] == str(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_log_is_opened_stops_after_the_first_step(
    arguments: dict[str, list[object]],
    references: dict[str, dict[str, str]],
    tmp_path: Path,
    number: int,
) -> None:
    path = tmp_path / "run.h5"
    args = [*line("eqprop-run", path), *arguments["eqprop-run"], "--resume"]
    for step in (1, 2):  # opened as a new log, then as one that goes on
        assert command(args, end_while_opening(number)) == 75
        run = read_run(path)
        assert (run.status, run.sealed) == ("stopped", True)
        assert len(run.table()["step"]) == step
        folder = checkpoint_folder(path)
        assert sorted(tmp_path.iterdir()) == [path, folder]
    assert command(args) == 0
    assert same_as(path, references["eqprop-run"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["preference-train", "nash-md model"])
def test_a_model_saved_before_the_log_was_sealed_is_replaced_and_no_other(
    arguments: dict[str, list[object]],
    references: dict[str, dict[str, str]],
    tmp_path: Path,
    name: str,
) -> None:
    skip_without_extras(name, arguments)
    path, args = tmp_path / "run.h5", arguments[name]

    def die_at_summary() -> None:
        original = RunLog.event

        def event(self: RunLog, kind: str, **data: object) -> None:
            if kind == "summary":
                os.kill(os.getpid(), signal.SIGKILL)
            original(self, kind, **data)

        RunLog.event = event  # type: ignore[method-assign]

    assert command([*line(name, path), *args], die_at_summary) == -signal.SIGKILL
    assert any(path.with_suffix("").iterdir())
    assert command([*line(name, path), "--resume"]) == 0
    assert same_as(path, references[name])
    other = tmp_path / "other.h5"
    assert command([*line(name, other), *args], end_at(5, signal.SIGTERM, True)) == 75
    mine = other.with_suffix("") / "mine"
    mine.parent.mkdir()
    mine.write_text("x")
    assert refused(call(*line(name, other), "--resume"), "exists")
    assert mine.read_text() == "x"
    mine.unlink()
    key = "epochs" if name == "preference-train" else "iterations"
    assert refused(call(*line(name, other), "--resume", f"--{key}", 1), f"{key}=1 is no more")
    assert command([*line(name, other), "--resume"]) == 0
    assert same_as(other, references[name])


def test_a_log_alone_names_no_folder_elsewhere(
    arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    """A stranger's log could name any folder, to be replaced."""
    skip_without_extras("nash-md model", arguments)
    path, elsewhere = tmp_path / "logs" / "run.h5", tmp_path / "model"
    start = ["nash-md", "--quiet", *arguments["nash-md model"], "--out", path, "--save", elsewhere]
    assert command(start, end_at(5, signal.SIGTERM, True)) == 75
    again = ["--quiet", "--resume", "--out", path]
    result = call("nash-md", *arguments["nash-md model"], *again)
    assert refused(result, f"its model goes to {elsewhere}, not beside it; give --save")
    assert command(["nash-md", *arguments["nash-md model"], *again, "--save", elsewhere]) == 0
    assert (elsewhere / "config.json").exists()


def test_what_would_give_other_numbers_is_refused(
    arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    args = [*arguments["eqprop-run"], "--quiet", "--out", path]
    assert command(["eqprop-run", *args], end_at(5, signal.SIGTERM, True)) == 75
    before = path.read_bytes()
    for more, words in (
        (["--threads", "2"], ["threads=1", "not 2", "--threads"]),
        (["--seed", "4"], ["seed=3", "not 4"]),
        (["--epochs", "1"], ["epochs=1 is no more than it has done"]),
        (["--set", "optimizer.weight_decay=0.5"], ["optimizer.weight_decay=0.0", "not 0.5"]),
        (["--set", "optimizer.momentun=0.5"], ["momentun", "optimizer.momentum"]),
        (["--overwrite"], ["--overwrite", "--resume"]),
    ):
        result = call("eqprop-run", "--resume", "--out", path, "--quiet", *more)
        assert refused(result, *words)
    assert refused(call("eqprop-run", "--resume"), "--out")
    assert refused(call("preference-train", "--resume", "--out", tmp_path / "m"), "--log")
    assert path.read_bytes() == before
    # With the same values it continues.
    assert command(["eqprop-run", "--resume", *args]) == 0


def test_a_log_that_is_written_is_not_taken_over(
    arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    args = ["eqprop-run", *arguments["eqprop-run"], "--quiet", "--out", path]

    def meddle() -> None:
        original = fingerprint  # keeps the name in the child

        def at_step(self: object, step: int, snapshot: object) -> None:
            if step == 3:
                code = command(["eqprop-run", "--resume", "--quiet", "--out", path])
                os._exit(42 if code == 2 and original else 43)

        from bridge.session import Session

        Session.after_step = at_step  # type: ignore[method-assign]

    assert command(args, meddle) == 42


@pytest.mark.slow
def test_a_folder_of_another_runs_checkpoints_is_ignored(
    arguments: dict[str, list[object]],
    references: dict[str, dict[str, str]],
    tmp_path: Path,
) -> None:
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    args = ["eqprop-run", *arguments["eqprop-run"], "--quiet"]
    assert command([*args, "--out", a], end_at(5, signal.SIGTERM, True)) == 75
    assert command([*args, "--out", b], end_at(7, signal.SIGKILL, False)) == -signal.SIGKILL
    shutil.rmtree(checkpoint_folder(b), ignore_errors=True)
    shutil.copytree(checkpoint_folder(a), checkpoint_folder(b))
    assert command([*args, "--resume", "--out", b]) == 0
    assert checkpoints(checkpoint_folder(b))  # they are not its own, so they stay
    shutil.rmtree(checkpoint_folder(b))
    assert same_as(b, references["eqprop-run"])


def test_what_else_lies_among_checkpoints_stays(
    arguments: dict[str, list[object]], tmp_path: Path
) -> None:
    """The folder may be a link to a larger disk, with other things on it."""
    path, larger = tmp_path / "run.h5", tmp_path / "larger"
    args = ["nash-md", "--quiet", *arguments["nash-md"], "--out", path]
    (larger / "mine").mkdir(parents=True)
    (larger / "mine" / "notes").write_text("x")
    assert command(args, end_at(5, signal.SIGTERM, True)) == 75
    shutil.copytree(checkpoint_folder(path), larger, dirs_exist_ok=True)
    shutil.rmtree(checkpoint_folder(path))
    checkpoint_folder(path).symlink_to(larger)
    assert command([*args, "--resume"]) == 0
    assert (larger / "mine" / "notes").read_text() == "x"


def test_a_second_sigterm_costs_no_checkpoint(
    arguments: dict[str, list[object]], references: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    def twice() -> None:
        end_at(5, signal.SIGTERM, True)()  # once at the end of the step, once when it is saved
        original = Session._save

        def save(self: Session, *given: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            original(self, *given)  # type: ignore[arg-type]

        Session._save = save  # type: ignore[method-assign]

    args = ["nash-md", "--quiet", "--out", tmp_path / "run.h5", *arguments["nash-md"]]
    assert command(args, twice) == 75
    assert command([*args, "--resume"]) == 0
    assert same_as(tmp_path / "run.h5", references["nash-md"])
