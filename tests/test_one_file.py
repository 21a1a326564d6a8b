"""An addition touches one file: in the package itself, or in a package of the user's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.runlog import read_run
from tests.command_line import call, refused

ROOT = Path(__file__).parents[1]
NEW = {
    "bioplaus/estimators/halved.py": '''
from dataclasses import dataclass

from bioplaus.errors import InputError
from bioplaus.estimators.asymmetric import AsymEP


@dataclass(frozen=True)
class Halved(AsymEP):
    """The exact rule, times a share."""

    name = "halved"
    share: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if self.share <= 0:
            raise InputError(f"share={self.share} must be above 0")

    def adjust(self, updates, batch, accepted):
        for update in updates.values():
            update.mul_(self.share)
''',
    "bioplaus/fields/connections/scaled.py": '''
from dataclasses import dataclass

from bioplaus.fields.connections.base import Connection, units


@dataclass(frozen=True, eq=False, repr=False)
class Scaled(Connection):
    """a = W r / 2."""

    def weight_shape(self, source, target):
        return units(target), units(source)

    def current(self, weight, r):
        return 0.5 * (r.flatten(1) @ weight.T)
''',
    "bioplaus/fields/pair.py": '''
from bioplaus.fields.connections.dense import Dense
from bioplaus.fields.connections.scaled import Scaled
from bioplaus.fields.layered import Layer, LayeredField


def pair(n_input, n_output, generator, dtype, activation="tanh", width: int = 4):
    """Two layers."""
    layers = [Layer(width, activation), Layer(n_output, "linear")]
    joined = [Dense(0, 1), Scaled(1, 2), Scaled(2, 1)]
    return LayeredField(n_input, layers, joined, generator=generator, dtype=dtype)


pair.name = "pair"
''',
    "bioplaus/data/readers/rows.py": '''
import numpy as np

from bioplaus.data.reader import AbstractReader


class Rows(AbstractReader):
    """Numbers in lines, the label last."""

    name, form = "rows", "numbers in lines (.rows)"

    def recognises(self, place):
        return place.suffix == ".rows"

    def read(self, place, split):
        read = np.loadtxt(place, dtype=np.float32)
        return read[:, :-1], read[:, -1].astype(int)
''',
}  # fmt: skip
APPENDED = {
    "bioplaus/activations.py": 'ACTIVATIONS["sine"] = Activation("sine", torch.sin)\n',
    "bioplaus/costs.py": """
class Quartic(AbstractCost):
    name = "quartic"

    def value(self, s, y):
        return (s - y).pow(4).sum(1)


COSTS["quartic"] = Quartic()
""",
}
ALL = ["--field", "pair", "--set", "network.width=3", "--activation", "sine", "--cost", "quartic"]
ALL += ["--estimator", "halved", "--set", "estimator.share=0.25", "--set", "data.holdout=0.2"]


@pytest.mark.slow
def test_each_is_one_file_of_the_package(tmp_path: Path) -> None:
    for name in ("bioplaus", "bridge", "bioplaus_cli"):
        away = shutil.ignore_patterns("mnist", "__pycache__", "static")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=away)
    (tmp_path / "nlhf").symlink_to(ROOT / "nlhf")
    shutil.copy(ROOT / "cli.py", tmp_path)
    for name, text in NEW.items():
        (tmp_path / name).write_text(text)
    for name, text in APPENDED.items():
        with (tmp_path / name).open("a") as file:
            file.write(f"\n\n{text}")
    lines = [f"{i % 5} {i % 3} {i % 7 / 7} {i % 2}" for i in range(30)]
    (tmp_path / "data.rows").write_text("\n".join(lines))
    command = [sys.executable, "cli.py", "eqprop-run", "--dataset", "data.rows", "--epochs", "1"]
    command += [*ALL, "--quiet", "--out", "run.h5", "--set", "batch_size=6"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = read_run(tmp_path / "run.h5").config
    assert config["network"] == {"field": "pair", "width": 3, "activation": "sine"}
    assert config["estimator"]["share"] == 0.25


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that adds an estimator, a field, a cost and an activation."""
    text = "".join(NEW[n] for n in ("bioplaus/estimators/halved.py",))
    text += NEW["bioplaus/fields/connections/scaled.py"]
    text += NEW["bioplaus/fields/pair.py"].replace(
        "from bioplaus.fields.connections.scaled import Scaled\n", ""
    )
    text += "import torch\n\n\ndef sine(s):\n    return torch.sin(s)\n"
    text += "\n\ndef quartic(s, y):\n    return (s - y).pow(4).sum(1)\n"
    (tmp_path / "added_by_test.py").write_text(text)
    info = tmp_path / "added_by_test-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added-by-test\nVersion: 1\n")
    names = {"estimators": "halved=Halved", "fields": "pair", "costs": "quartic"}
    names["activations"] = "sine"
    groups = []
    for group, entry in names.items():
        name, _, value = entry.partition("=")
        line = f"{name} = added_by_test:{value or name}\nbroken = nowhere_at_all:x\n"
        groups.append(f"[bioplaus.{group}]\n{line}")
    (info / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\ndef load():\n    x = torch.rand(30, 3)\n"
        "    return x[:20], (x[:20, 0] > 0.5).long(), x[20:], (x[20:, 0] > 0.5).long()\n"
    )
    return tmp_path


def test_a_package_adds_names_and_a_broken_one_is_one_line(package: Path) -> None:
    run = ["eqprop-run", "--dataset", "mine.py:load", "--epochs", 1, "--quiet"]
    run += ["--set", "batch_size=10"]
    done = call(*run, *ALL[:-2], "--out", "run.h5")
    assert done.exit_code == 0, done.output
    noted = {e["what"]: e["file"] for e in read_run("run.h5").events if e["kind"] == "code"}
    for what in ("field", "estimator", "cost", "activation"):
        assert noted[what] == str((package / "added_by_test.py").resolve())
    # a broken entry point is told where it is named, and nowhere else
    for option in ("--estimator", "--field", "--cost", "--activation"):
        said = call(*run, option, "broken")
        assert refused(said, "the entry point broken of bioplaus.", "nowhere_at_all")
    assert refused(call(*run, "--estimator", "halve"), "did you mean halved?")


MISTYPED = {
    "module": (["--field", "nowhere:Net"], "no module 'nowhere'"),
    "attribute": (["--field", "mine.py:lod"], "did you mean 'load'?"),
    "kind of field": (["--field", "builtins:int"], "is the class int, no VectorField"),
    "function that gives none": (["--field", "mine.py:load"], "gave tuple"),
    "kind of estimator": (["--estimator", "builtins:int"], "is no estimator but int"),
    "kind of cost": (["--cost", "builtins:int"], "is no cost but int"),
    "kind of activation": (["--activation", "builtins:int"], "is a type"),
    "outputs": (["--field", "three.py:net"], "n_output=3 is not the 2 outputs of load"),
    "shape": (["--field", "three.py:bad"], "gave"),
    "parameter": (["--field", "three.py:needy"], "needs mystery, which a run does not know"),
    "failing": (["--field", "three.py:failing"], "three.py:"),
}


@pytest.mark.parametrize("case", MISTYPED)
def test_what_is_mistyped_is_one_line(package: Path, case: str) -> None:
    (package / "three.py").write_text(
        "import torch\nfrom bioplaus import FunctionField\n\n\n"
        "def make(n_output, mu):\n"
        "    return FunctionField(mu, {'w': torch.zeros(4)}, n=4, n_output=n_output)\n\n\n"
        "def net():\n    return make(3, lambda p, x, s: p['w'] - s)\n\n\n"
        "def bad():\n    return make(2, lambda p, x, s: s[:, :2])\n\n\n"
        "def needy(mystery):\n    return make(2, mystery)\n\n\n"
        "def failing():\n    return make(2, lambda p, x, s: s @ p['v'])\n"
    )
    args, words = MISTYPED[case]
    run = ["eqprop-run", "--dataset", "mine.py:load", "--out", "run.h5", "--quiet", *args]
    assert refused(call(*run), words)
    assert not Path("run.h5").exists()
