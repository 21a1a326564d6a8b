"""`eqprop-run` as a user meets it: its output, its files, and its refusals of bad input."""

import gzip
import json
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

import cli
from bioplaus.estimators import ESTIMATORS, ORACLES
from bridge.runlog import read_run
from tests import command_line
from tests.bioplaus import idx_files
from tests.command_line import refused

call = partial(command_line.call, "eqprop-run")
SHIPPED = Path(cli.__file__).parent / "bioplaus" / "data" / "mnist"
SMALL = ["--hidden", "32", "--epochs", "2", "--set", "data.train_size=500"]
SMALL += ["--set", "data.test_size=200", "--set", "batch_size=25", "--seed", "3"]


def test_prints_one_json_object_and_leaves_a_log(tmp_path):
    out = tmp_path / "run.h5"
    result = call(*SMALL, "--json", "--quiet", "--out", out)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said.keys() == {
        "test_error",
        "train_error",
        "epochs",
        "seconds",
        "images_per_second",
        "log",
        "seed",
    }
    assert (said["epochs"], said["seed"], said["log"]) == (2, 3, str(out))
    run = read_run(out)
    assert run.status == "finished"
    assert list(run.table("metrics")["step"]) == list(range(1, 41))
    epochs = run.table("epochs")
    assert epochs["test_error"][-1] == said["test_error"]
    assert "alignment_1" in epochs
    step, weights = run.weights()
    assert step == 40
    assert weights["forward.1"].shape == (32, 784)
    assert run.config["network"]["hidden"] == [32]
    with h5py.File(out) as file:  # an ordinary reader
        assert len(file["metrics/step"]) == 40


def test_same_seed_same_rows(tmp_path):
    rows = []
    for name in "ab":
        call(*SMALL, "--quiet", "--threads", "1", "--out", tmp_path / name)
        rows.append(read_run(tmp_path / name).table("metrics"))
    assert all((rows[0][column] == rows[1][column]).all() for column in rows[0])


def test_table_has_a_row_an_epoch_and_says_where_the_log_is(tmp_path):
    out = tmp_path / "run.h5"
    result = call(*SMALL, "--out", out)
    lines = result.stdout.splitlines()
    assert "test error" in lines[0]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert f"log: {out}" in result.stdout
    assert "runs show" in result.stdout


def test_several_hidden_layers_in_one_option(tmp_path):
    result = call(*SMALL, "--hidden", "16", "8", "--out", tmp_path / "a", "--quiet")
    assert result.exit_code == 0, result.output
    assert read_run(tmp_path / "a").config["network"]["hidden"] == [32, 16, 8]


@pytest.mark.parametrize("name", ESTIMATORS | ORACLES)
def test_every_estimator_learns(name, tmp_path):
    args = ["--set", "data.train_size=100", "--set", "data.test_size=20", "--hidden", "8"]
    args += ["--set", "network.activation=tanh", "--set", "network.coordinates=membrane"]
    args += ["--set", "optimizer.method=adam", "--set", "optimizer.learning_rate=0.003"]
    args += ["--set", "network.angle=20", "--set", "batch_size=10"]
    if name in ("finite-difference", "unrolled"):  # many settlings or steps an update
        args = [*args[4:-1], "batch_size=40", "--hidden", "4"]
        args += ["--dataset", str(_few_pixels(tmp_path))]
    out = tmp_path / "run.h5"
    result = call(*args, "--epochs", "3", "--estimator", name, "--quiet", "--out", out)
    assert result.exit_code == 0, result.output
    cost = read_run(out).table("epochs")["cost"]
    assert cost[-1] < cost[0]


def _few_pixels(folder: Path) -> Path:
    """Images of 3 x 3 pixels: the label is the bright column."""
    content = {}
    for role, count in (("train", 40), ("test", 10)):
        labels = np.arange(count, dtype=np.uint8) % 3
        images = np.zeros((count, 3, 3), np.uint8)
        images[np.arange(count), :, labels] = 255
        content |= {f"{role} images": images, f"{role} labels": labels}
    return idx_files.write(folder / "images", content)


def test_an_estimator_that_cannot_serve_the_network_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("holomorphic", "hard-sigmoid", "corners", "tanh")
    assert refused(call(*SMALL, "--estimator", "holomorphic"), *words)
    assert list(tmp_path.rglob("*.h5")) == []


def test_a_diverging_network_fails_with_a_readable_log(tmp_path):
    out = tmp_path / "run.h5"
    extreme = ["--set", "optimizer.learning_rate=1e7", "--epochs", "20"]
    result = call(*SMALL, *extreme, "--out", out, "--quiet")
    assert result.exit_code == 1
    assert "diverged" in result.stderr
    assert "use a smaller learning rate" in result.stderr or "use smaller" in result.stderr
    run = read_run(out)
    assert run.status == "failed"
    assert len(run.table("metrics")["step"]) > 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--epochz", "3"], ["--epochz", "--epochs"]),
        (["--set", "optimizer.learning_rat=1"], ["learning_rat", "optimizer.learning_rate"]),
        (["--set", "epochs=many"], ["epochs", "many"]),
        (["--hidden", "-5"], ["hidden", "-5"]),
        (["--set", "estimator.beta=0"], ["beta=0", "no nudge"]),
        (["--estimator", "backprop"], ["backprop", "vector-field"]),
        (["--dataset", "/nowhere"], ["/nowhere"]),
        (["nothere.toml"], ["nothere.toml"]),
        (["--out", "/proc/none/run.h5"], ["/proc"]),
    ],
)
def test_bad_input(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(call(*SMALL, *args), *words)
    assert list(tmp_path.rglob("*.h5")) == []


@pytest.mark.skipif(__import__("torch").cuda.is_available(), reason="there is a GPU")
def test_cuda_without_one(tmp_path):
    assert refused(call(*SMALL, "--device", "cuda", "--out", tmp_path / "a.h5"), "cuda")


def test_an_existing_log_is_kept_unless_overwrite_is_given(tmp_path):
    out = tmp_path / "run.h5"
    out.write_bytes(b"precious")
    assert refused(call(*SMALL, "--out", out), str(out), "--overwrite")
    assert out.read_bytes() == b"precious"
    assert call(*SMALL, "--out", out, "--overwrite", "--quiet").exit_code == 0
    assert read_run(out).status == "finished"


def test_damaged_data_files(tmp_path):
    for file in SHIPPED.glob("*.gz"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    raw = gzip.decompress(labels.read_bytes())
    labels.write_bytes(gzip.compress(raw[:-10]))
    assert refused(call("--dataset", tmp_path, "--quiet"), "train-labels")
    labels.unlink()
    assert refused(call("--dataset", tmp_path, "--quiet"), "train labels")


def test_config_file_below_flags_below_set(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("epochs = 3\nseed = 5\n[network]\nangle = 45.0\n")
    out = tmp_path / "run.h5"
    call(config, *SMALL, "--set", "seed=9", "--out", out, "--quiet")
    said = read_run(out).config
    assert (said["epochs"], said["seed"], said["network"]["angle"]) == (2, 9, 45.0)


def test_help_has_an_example():
    result = call("--help")
    assert result.exit_code == 0
    assert "bioplaus eqprop-run" in result.stdout
