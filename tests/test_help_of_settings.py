"""--help lists the settings of the estimators, including those in users' code."""

from __future__ import annotations

from pathlib import Path

import pytest

from bioplaus.config import EqpropConfig
from bioplaus.config.describing import described
from bioplaus.estimators import ESTIMATORS, ORACLES
from bridge.config import load_config
from tests.command_line import call, refused

MINE = '''
from dataclasses import dataclass

from bioplaus import AsymEP


@dataclass(frozen=True)
class Rule(AsymEP):
    """Mine, which is scaled.

    Attributes:
        scale: what updates are
            multiplied by.
    """

    scale: float = 1.5
    bare: int = 7
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ruled.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def helped(*args: str) -> str:
    done = call(*args, "--help")
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


@pytest.mark.parametrize("name", [*ESTIMATORS, *ORACLES])
def test_every_setting_is_listed_with_its_meaning(name: str) -> None:
    text = helped("eqprop-run", "--estimator", name)
    _, settings = described(name)
    assert settings
    for each in settings:
        assert each.meaning
        assert each.meaning in text
        key = text.partition(f"--set estimator.{each.name}=")[2].split()[0]
        given = ["estimator.name=" + name, f"estimator.{each.name}={key}"]
        config = load_config(EqpropConfig, sets=given)  # as it is listed, it is taken
        assert getattr(config.estimator, each.name) == each.default


@pytest.mark.parametrize("spec", ["ruled:Rule", "ruled.py:Rule"])
def test_users_code_is_listed_too(spec: str) -> None:
    text = helped("eqprop-run", f"--estimator={spec}")
    assert f"Settings of the estimator {spec}: Mine, which is scaled." in text
    assert "--set estimator.scale=1.5 what updates are multiplied by." in text
    assert "--set estimator.bare=7 -" in text
    assert "--set estimator.beta=0.5 strength of the nudge" in text


def test_gradcheck_lists_its_own_keys_of_each() -> None:
    text = helped("gradcheck", "--estimator", "holomorphic", "--estimator", "homeostasis")
    assert "--set points=4 number N of nudges on the circle, >= 1." in text
    assert "--set nudging=centered" in text
    assert "strength=" not in text  # what is compared has no regulariser


def test_without_a_name_it_says_how_to_ask() -> None:
    for command in ("eqprop-run", "gradcheck"):
        assert f"{command} --estimator NAME --help lists its own." in helped(command)
    refused_of = call("eqprop-run", "--estimator", "asymep", "--help")
    assert refused(refused_of, "did you mean asym-ep?")
