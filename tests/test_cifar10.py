"""The experiment on CIFAR-10 from end to end, on a few Fashion-MNIST images."""

from __future__ import annotations

import json
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bioplaus import AsymEP, InputError, Settling, Unrolled
from bioplaus.costs import get_cost
from bioplaus.data import load_dataset
from bioplaus.data.known import KNOWN
from bioplaus.fields.convolutional import convolutional
from bioplaus.phases import free_phase
from experiments.cifar10 import course, pieces, remedies
from experiments.cifar10.__main__ import by_layer, main, tabulated
from experiments.cifar10.images import ARCHIVE, packed
from experiments.cifar10.judging import judged
from experiments.cifar10.measures import without_autograd, without_feedback
from experiments.cifar10.mirror import MirroredEP, likeness, mirrored
from experiments.cifar10.plan import METHODS, SIZES, arguments
from tests.command_line import call

needs_fashion = pytest.mark.skipif(
    not KNOWN["fashion-mnist"].folder.is_dir(), reason="dataset-fashion-mnist is not installed"
)
SETTLING = Settling(tolerance=0, free_steps=4, nudged_steps=4, verify=False)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs in this process, which has imported torch already."""
    ran: list[list[str]] = []

    def run(arguments: list[str], seconds: float) -> tuple[int, str]:
        ran.append(arguments)
        done = call("eqprop-run", *arguments)
        return done.exit_code, done.output

    monkeypatch.setattr(pieces, "_run", run)
    return ran


@pytest.mark.slow
@needs_fashion
def test_the_table(here: list[list[str]], tmp_path: Path) -> None:
    rules = ("asym-ep", "tied", "backpropagation")
    asked = ["--size", "smoke", "--data", "fashion-mnist", "--out", str(tmp_path)]
    asked += [part for rule in rules for part in ("--method", rule)]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    found = {
        rule: runs[0] for rule, runs in json.loads((tmp_path / "smoke.json").read_text()).items()
    }
    assert list(found) == list(rules)
    for rule, row in found.items():
        assert f"| `{rule}` | 1 of 1 |" in done.output
        assert row["accuracy"] == pytest.approx(row["test accuracy of the log"])
        assert row["simulation converged"] == 1
        assert row["cosine to simulation"] > 0.995  # of some pictures, far from learned
        assert row["residual median"] < 0.1
    assert found["asym-ep"]["cosine"] > 0.95
    assert 80 < found["asym-ep"]["weight_angle.1"] < 100
    assert found["asym-ep"]["moved by feedback.2"] > 0
    alone = found["backpropagation"]
    assert alone["cosine"] > 0.99999
    assert alone["moved by feedback.2"] == 0
    assert alone["loop radius"] < 0.05
    assert alone["accuracy"] == alone["accuracy without feedback"]
    again = CliRunner().invoke(main, asked)
    assert again.output.splitlines()[-5:] == done.output.splitlines()[-5:]
    assert len(here) == 3


@needs_fashion
def test_a_dry_run_says_how_long_it_takes(tmp_path: Path) -> None:
    asked = ["--size", "smoke", "--data", "fashion-mnist", "--dry-run", "--method", "dyadic"]
    asked += ["--set", "optimizer.warmup_steps=50"]  # more than the updates that are timed
    done = CliRunner().invoke(main, [*asked, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "| `smoke-dyadic` |" in done.output
    assert "pieces of 8 minutes" in done.output
    assert not list(tmp_path.iterdir())


def test_every_rule_s_settings_are_legal_at_every_size() -> None:
    from experiments.cifar10.__main__ import loaded

    for size in SIZES.values():
        for method in METHODS:
            config = loaded(arguments(method, size, 3, "mnist"))
            assert config.seed == 3
            assert config.epochs == size.epochs


def test_every_remedy_changes_the_settings_and_is_legal() -> None:
    from experiments.cifar10.__main__ import loaded

    found = {
        name: loaded(arguments("asym-ep", SIZES["narrow"], 0, "mnist", last=last))
        for name, last in remedies.REMEDIES.items()
    }
    assert all(found[name] != found["limit"] for name in found if name != "limit")
    assert found["none"].contraction.limit is None
    assert found["full-rate"].optimizer.rates == {}


@pytest.mark.slow
@needs_fashion
def test_the_remedies_have_a_table(here: list[list[str]], tmp_path: Path) -> None:
    asked = ["--size", "smoke", "--data", "fashion-mnist", "--out", str(tmp_path)]
    asked += ["--remedy", "limit", "--remedy", "cap", "--minutes", "5"]
    done = CliRunner().invoke(remedies.main, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    table = [line for line in done.output.splitlines() if line.startswith("| `")]
    assert [line.split("|")[1].strip() for line in table] == [
        "`as in the table`",
        "`no contraction.limit, contraction.cap=0.03`",
    ]
    assert all(0 <= float(line.split("|")[2]) <= 100 for line in table)
    assert len(here) == 2


def test_pieces_end_where_a_run_was_stopped_and_go_on_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    codes, ran = {"a": [0], "b": [75, 0], "c": [1]}, []

    def run(arguments: list[str], seconds: float) -> tuple[int, str]:
        name = Path(arguments[arguments.index("--out") + 1]).stem
        ran.append(name)
        code = codes[name].pop(0)
        if code != 75:
            (tmp_path / f"{name}.done").write_text("")
        return code, "why"

    monkeypatch.setattr(pieces, "_run", run)
    monkeypatch.setattr(
        pieces, "ended", lambda path: "finished" if path.with_suffix(".done").exists() else None
    )
    jobs: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    assert not pieces.run_piece(jobs, tmp_path, 100, lambda text: None)
    assert pieces.run_piece(jobs, tmp_path, 100, lambda text: None)
    assert ran == ["a", "b", "b", "c"]
    codes["d"] = [2]
    with pytest.raises(RuntimeError, match="d: exit 2: why"):
        pieces.run_piece({"d": []}, tmp_path, 100, lambda text: None)
    assert not pieces.run_piece({"e": []}, tmp_path, 5, lambda text: None)  # no time to begin


def test_pieces_beside_each_other_run_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    together, done = threading.Barrier(2, timeout=30), []

    def run(arguments: list[str], seconds: float) -> tuple[int, str]:
        together.wait()  # passes only if two runs have started
        done.append(arguments[0])
        return 0, ""

    monkeypatch.setattr(pieces, "_run", run)
    jobs = {name: [name] for name in "abcd"}
    assert pieces.run_piece(jobs, tmp_path, 100, lambda text: None, processes=2)
    assert sorted(done) == list("abcd")


@pytest.mark.parametrize("pool", ["average", "max", "softmax"])
def test_the_local_rule_keeps_nothing_for_autograd_and_the_guard_would_see_it(pool: str) -> None:
    g = torch.Generator().manual_seed(0)
    field = convolutional((1, 8, 8), 2, (3, 4), pool=pool, generator=g)
    x, y, cost = torch.rand(2, 1, 8, 8, generator=g), torch.eye(2), get_cost("cross-entropy")
    with without_autograd():
        AsymEP(settling=SETTLING)(field, x, y, cost)
    with pytest.raises(RuntimeError), without_autograd():
        Unrolled(settling=SETTLING)(field, x, y, cost)


def test_a_net_without_its_feedback_is_the_pass_upwards() -> None:
    g = torch.Generator().manual_seed(0)
    for feedback in ("independent", "tied"):
        field = convolutional((1, 8, 8), 2, (3, 4), feedback=feedback, generator=g)
        cut, x = without_feedback(field), torch.rand(3, 1, 8, 8, generator=g)
        up = field.initial_state(field.drive(x))
        torch.testing.assert_close(free_phase(cut, x, settling=SETTLING).s, up)
        assert cut.parameters["forward.1"].data_ptr() == field.parameters["forward.1"].data_ptr()


@pytest.mark.parametrize("archived", [False, True])
def test_images_of_files_are_packed_as_they_are(tmp_path: Path, archived: bool) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "cifar10"
    for side, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            (root / side / name).mkdir(parents=True)
            for k in range(count):
                image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(image).save(root / side / name / f"{k:04}.jpg")
    expected = load_dataset(str(root))
    given = root
    if archived:
        given = tmp_path / "shared"
        given.mkdir()
        with tarfile.open(given / ARCHIVE, "w:xz") as tar:
            tar.add(root, "cifar10")
    # two commands may start at once
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(packed, [str(given)] * 2, [tmp_path / "out"] * 2))
    assert files == [str(tmp_path / "out" / "images.npz")] * 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["images.npz"]
    made = load_dataset(files[0])
    for side in ("train", "test"):
        torch.testing.assert_close(getattr(made, side).inputs, getattr(expected, side).inputs)
        assert torch.equal(getattr(made, side).targets, getattr(expected, side).targets)
    assert packed("fashion-mnist", tmp_path / "out") == "fashion-mnist"


def test_an_archive_writes_nothing_outside_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / ARCHIVE, "w:xz") as tar:
        tar.add(tmp_path / "evil", "../../escaped")
    with pytest.raises(InputError, match="leads out of the folder"):
        packed(str(tmp_path / ARCHIVE), tmp_path / "a" / "out")
    assert not list(tmp_path.rglob("escaped"))


def test_learned_transposes_come_to_the_weights_and_the_update_to_the_exact_one() -> None:
    g = torch.Generator().manual_seed(0)
    field = mirrored((1, 8, 8), 3, (3, 4), feedback_gain=0.5, generator=g, dtype=torch.float64)
    x, y, cost = (
        torch.rand(4, 1, 8, 8, generator=g).double(),
        torch.eye(3).double(),
        "cross-entropy",
    )
    y = y[torch.tensor([0, 1, 2, 0])]
    settling = Settling(tolerance=1e-12, free_steps=500, nudged_steps=500, verify=False)
    exact = AsymEP(settling=settling)(field, x, y, get_cost(cost)).updates
    weights = [name for name in exact if not name.startswith("mirror.")]

    def away() -> float:
        found = MirroredEP(settling=settling)(field, x, y, get_cost(cost)).updates
        assert not any(found[name].any() for name in found if name not in weights)
        a, b = (torch.cat([each[name].flatten() for name in weights]) for each in (found, exact))
        return float((a - b).norm() / b.norm())

    before = {name: field.parameters[name].clone() for name in weights}
    first = away()
    assert max(abs(value) for value in likeness(field).values()) < 0.6
    for _ in range(400):
        field.constrain()
    assert min(likeness(field).values()) > 0.9999
    assert away() < 0.02 < 0.2 < first
    for name in weights:
        assert torch.equal(field.parameters[name], before[name])


def test_a_run_that_fails_in_its_first_epoch_has_a_row_too(tmp_path: Path) -> None:
    log = tmp_path / "failed.h5"
    small = ["--set", "data.train_size=600", "--set", "data.test_size=20", "--hidden", "8"]
    rate = ["--set", "optimizer.learning_rate=1e30", "--set", "batch_size=5", "--quiet"]
    assert call("eqprop-run", *small, *rate, "--out", log).exit_code == 1
    assert judged(log, "cpu") == {}
    assert "| `x` | 0 of 1 |" in tabulated({"x": [{}]})


def test_measures_of_layers_are_means_over_the_seeds_that_have_them() -> None:
    first = {"cosine.forward.1": 0.5, "cosine.forward.2": 0.25, "moved by feedback.1": 0.5}
    second = {"cosine.forward.1": 1.0, "cosine": 0.0}
    head, _, x, y = by_layer({"x": [first, second], "y": [{}]}).splitlines()
    assert head == "| rule | cosine of layer 1 | cosine of layer 2 | moved in layer 1 |"
    assert x == "| `x` | 0.750 | 0.250 | 50.0% |"
    assert y == "| `y` |  |  |  |"


@pytest.mark.slow
def test_the_course_gives_rows_tables_and_a_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "CHECKED", 1)
    rng = np.random.default_rng(0)
    for side, count in (("train", 30), ("test", 10)):
        for name in ("cat", "dog"):
            (tmp_path / "data" / side / name).mkdir(parents=True)
            for k in range(count):
                image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / "data" / side / name / f"{k:04}.png")
    figure = tmp_path / "course.png"
    asked = ["--data", str(tmp_path / "data"), "--train", "60", "--test", "20", "--epochs", "2"]
    asked += ["--cosines", "2", "--out", str(tmp_path / "out"), "--figure", str(figure)]
    asked += ["--only", "with"]
    done = CliRunner().invoke(course.main, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "with the controller" in done.output
    lines = (tmp_path / "out" / "course-with.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(0 < row["residual 99 %"] < 0.02 for row in rows)
    assert rows[1]["cosine"] > 0.9
    assert rows[1].keys() >= course.LAYERS.keys()
    with Image.open(figure) as drawn:
        assert min(drawn.size) > 400
