"""The architecture obeys its rules, and each rule detects violations."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import structure
from tests.structure import Sources

ROOT = Path(__file__).parents[1]
PACKAGES = ("bioplaus", "nlhf", "bridge", "bioplaus_votes")


def read(*places: str) -> dict[str, str]:
    """The sources of packages, folders and single files of the repository."""
    paths = [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]
    paths += [ROOT / place for place in places if place.endswith(".py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text("utf-8")
        for path in paths
    }


def read_order() -> dict[str, list[str]]:
    """Each package's parts, lowest first, from import-linter's layers."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return {
        contract["containers"][0]: [layer.strip("()") for layer in reversed(contract["layers"])]
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    }


ORDER = read_order()
PROGRAM = read(*PACKAGES, "bioplaus_cli", "cli.py")


def wrong_order(sources: Sources) -> list[str]:
    return structure.wrong_order(sources, ORDER)


def test_the_sources_and_the_orders_are_found() -> None:
    assert {"cli", "bioplaus.__init__", "bioplaus.data.dataset"} <= PROGRAM.keys()
    assert ORDER.keys() == set(PACKAGES)
    assert ORDER["bioplaus"][:3] == ["errors", "calling", "registry"]


@pytest.mark.parametrize(
    "rule",
    [
        structure.wrong_reach,
        structure.wrong_place,
        wrong_order,
        structure.cycles,
        structure.code_on_load,
        structure.prints,
        structure.bare_factorisations,
    ],
)
def test_the_program_keeps_the_rule(rule: Callable[[Sources], list[str]]) -> None:
    assert rule(PROGRAM) == []


def test_no_file_and_no_function_is_too_long() -> None:
    everything = PROGRAM | read("tests", "benchmarks", "examples", "experiments")
    assert "tests.test_structure" in everything
    assert structure.wrong_size(everything) == []


def test_benchmarks_and_examples_load_no_code() -> None:
    assert structure.code_on_load(read("benchmarks", "examples")) == []


BODY = "    x = 0\n"
BROKEN: list[tuple[Callable[[Sources], list[str]], dict[str, str], str]] = [
    (structure.wrong_reach, {"bridge.optim": "import bioplaus.costs"}, "bridge.optim:1"),
    (structure.wrong_reach, {"bridge.a.b": "def f():\n  from nlhf import x"}, "bridge.a.b:2"),
    (structure.wrong_reach, {"bioplaus.costs": "import nlhf"}, "imports nlhf"),
    (structure.wrong_reach, {"nlhf.games": "from bioplaus import x"}, "imports bioplaus"),
    (structure.wrong_reach, {"bioplaus.costs": "import bridge"}, "imports bridge"),
    (structure.wrong_reach, {"bioplaus.fields.config": "import bridge"}, "imports bridge"),
    (structure.wrong_reach, {"nlhf.__init__": "import bridge"}, "nlhf:1 imports bridge"),
    (structure.wrong_reach, {"bridge.console": "import cli"}, "imports cli"),
    (
        structure.wrong_reach,
        {"nlhf.training": "from bioplaus_cli import logs"},
        "imports bioplaus_cli",
    ),
    (
        structure.wrong_reach,
        {"bioplaus.training": "import bioplaus_votes"},
        "imports bioplaus_votes",
    ),
    (
        structure.wrong_reach,
        {"bridge.optim": "from bioplaus_votes import Policy"},
        "imports bioplaus_votes",
    ),
    (
        structure.wrong_reach,
        {"bioplaus_votes.rules": "import bioplaus_cli.eqprop"},
        "imports bioplaus_cli",
    ),
    (structure.wrong_place, {"bridge.config": "import h5py"}, "only bridge.runlog"),
    (structure.wrong_place, {"bridge.runlogs": "from h5py import File"}, "only bridge.runlog"),
    (structure.wrong_place, {"cli": "def f():\n  import plotly.io"}, "only bridge.report"),
    (structure.wrong_place, {"bioplaus.costs": "import brian2"}, "only bioplaus.engines"),
    (structure.wrong_place, {"nlhf.games": "import peft"}, "only nlhf.language"),
    (
        structure.wrong_place,
        {"nlhf.games": "import importlib\ndef f():\n  importlib.import_module('transformers.x')"},
        "nlhf.games:3 imports transformers",
    ),
    (structure.wrong_place, {"bridge.report.plots": "import matplotlib"}, "it is optional"),
    (structure.wrong_place, {"nlhf.language.a": "try:\n  import peft\nfinally: 0"}, "optional"),
    (wrong_order, {"bioplaus.costs": "", "bioplaus.errors": "from . import costs"}, "later"),
    (
        wrong_order,
        {"bioplaus.fields.base": "from ..phases import f", "bioplaus.phases": ""},
        "bioplaus.fields.base:1 imports bioplaus.phases, which comes later",
    ),
    (
        wrong_order,
        {"bioplaus.costs": "def f():\n  import bioplaus.training", "bioplaus.training": ""},
        "later",
    ),
    (wrong_order, {"nlhf.games": "from nlhf import x", "nlhf.__init__": ""}, "its own package"),
    (wrong_order, {"bridge.unheard_of.a": ""}, "has no place"),
    (
        structure.cycles,
        {"bridge.runlog.a": "from . import b", "bridge.runlog.b": "def f():\n  from .a import x"},
        "bridge.runlog.a",
    ),
    (
        structure.cycles,
        {"nlhf.a.__init__": "from nlhf.a.b import x", "nlhf.a.b": "from nlhf.a import y"},
        "nlhf.a.b",
    ),
    (structure.wrong_size, {"a": "x = 0\n" * 401}, "a: 401 lines, 400 at most"),
    (structure.wrong_size, {"a": "def f():\n" + BODY * 50}, "a.f: 51 lines, 50 at most"),
    (structure.wrong_size, {"a": "class A:\n  async def f():\n" + BODY * 50}, "a.f: 51"),
    (structure.wrong_size, {"tests.a": "def f():\n" + BODY * 80}, "f: 81 lines, 80 at most"),
    (structure.code_on_load, {"nlhf.a": "import pickle"}, "imports pickle"),
    (structure.code_on_load, {"nlhf.a": "from torch import load as l"}, "imports torch.load"),
    (structure.code_on_load, {"nlhf.a": "import torch as t\nt.load('x')"}, "a:2 uses torch.load"),
    (structure.code_on_load, {"nlhf.a": "import torch\ntorch.save"}, "uses torch.save"),
    (structure.code_on_load, {"nlhf.a": "np.load(f, allow_pickle=True)"}, "allow_pickle"),
    (structure.prints, {"bioplaus.a": "def f():\n  print(1)"}, "bioplaus.a:2 prints"),
    (structure.prints, {"bridge.consoles": "f(print)"}, "prints"),
    (structure.bare_factorisations, {"nlhf.a": "torch.linalg.solve_ex(a, b)"}, "solve_ex"),
    (structure.bare_factorisations, {"bioplaus.a": "f(x.inverse())"}, "bioplaus.a:1"),
]


@pytest.mark.parametrize(("rule", "sources", "message"), BROKEN)
def test_a_broken_rule_is_told(
    rule: Callable[[Sources], list[str]], sources: dict[str, str], message: str
) -> None:
    (violation,) = rule(sources)
    assert message in violation


KEPT: list[tuple[Callable[[Sources], list[str]], dict[str, str]]] = [
    (structure.wrong_reach, {"bioplaus.training": "import bridge", "cli": "import nlhf, bridge"}),
    (structure.wrong_reach, {"nlhf.config": "from bridge import x", "nlhf.a": "import nlhf.b"}),
    (
        structure.wrong_reach,
        {"bioplaus_votes.rules": "import bioplaus.costs, nlhf.games, bridge.optim"},
    ),
    (structure.wrong_place, {"bridge.runlog.a": "import h5py", "bridge.runlog": "import h5py"}),
    (structure.wrong_place, {"nlhf.language.a": "def f():\n  import peft"}),
    (
        structure.wrong_place,
        {"nlhf.language.a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import peft"},
    ),
    (wrong_order, {"bioplaus.costs": "from .errors import x", "bioplaus.errors": ""}),
    (wrong_order, {"bioplaus.fields.a": "from .b import x", "bioplaus.fields.b": "import bridge"}),
    (wrong_order, {"bioplaus.__init__": "import bioplaus.training", "bioplaus.training": ""}),
    (structure.cycles, {"a.__init__": "from a.b import x", "a.b": "import a.c", "a.c": ""}),
    (structure.wrong_size, {"a": "x = 0\n" * 400}),
    (structure.wrong_size, {"a": 'def f():\n    """A\n\n    b.\n    """\n' + BODY * 49}),
    (structure.wrong_size, {"tests.a": "def f():\n" + BODY * 79}),
    (structure.code_on_load, {"bridge.a": "import json, torch\njson.load(f)\ntorch.tensor(1)"}),
    (structure.bare_factorisations, {"nlhf.a": "torch.linalg.qr(a)", "nlhf.linear": "x.inverse()"}),
    (structure.prints, {"cli": "print(1)", "bridge.console": "print(1)", "a": "c.print(1)"}),
]


@pytest.mark.parametrize(("rule", "sources"), KEPT)
def test_a_kept_rule_is_let_be(
    rule: Callable[[Sources], list[str]], sources: dict[str, str]
) -> None:
    assert rule(sources) == []
