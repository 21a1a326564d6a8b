"""--print-config prints the whole config as TOML, which gives the same config; nothing is run."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bioplaus.config import DataCheckConfig, EqpropConfig, GradcheckConfig
from bioplaus.estimators import ESTIMATORS, ORACLES
from bioplaus_cli.hints import CONFIGS
from bioplaus_votes.config import VotingConfig
from bridge.config import Config, config_toml, docstring_meanings, load_config, settings_of
from bridge.config.describing import Setting
from bridge.runlog import read_run
from nlhf.config import (
    LanguageConfig,
    NashConfig,
    PreferenceConfig,
    TournamentConfig,
    WarmStartConfig,
)
from tests.command_line import call, refused

MODELS: list[type[BaseModel]] = [
    DataCheckConfig,
    EqpropConfig,
    GradcheckConfig,
    LanguageConfig,
    NashConfig,
    PreferenceConfig,
    TournamentConfig,
    VotingConfig,
    WarmStartConfig,
]
LINES = [
    "eqprop-run",
    "eqprop-run --hidden 64 32 --estimator asym-ep --set optimizer.method=adam --epochs 3",
    "eqprop-run --set contraction.residual=0.01 --set optimizer.rates={'forward.1'=0.5}",
    "eqprop-run --engine brian2 --set phases.dt=0.2 --field convolutional --dataset cifar",
    "eqprop-run --field ruled.py:made --set network.units=7 --estimator implicit",
    "eqprop-run --set data.range=[-1,1.5] --set optimizer.rates={} --set network.hidden=[]",
    "eqprop-nash --judge votes:roshambo --set reference=[0.5,0.5] --tau 1e-3",
    "nash-md",
    "nash-md --game rock-paper-scissors --algorithm exact --set tau_start=1",
    "nash-md --algorithm mnpo --set method.players=3 --set smoothing=0.5",
    'nash-md --model tiny:a,b --prompts "odd\\name".jsonl --preference judge:http://h/v1#m',
    "nash-md --model tiny:a,b --prompts p --preference x:y --set reference=ema",
    "gradcheck --sizes 6,5,3 --estimator holomorphic --set points=6 --dtype float32",
    "gradcheck --field ruled.py:made --set network.units=7 --sizes 6,3",
    "preference-train --pairs p.jsonl --head bradley-terry --epochs 2",
    "tournament --policies a b.jsonl --prompts p.jsonl --preference x:y --set limit=4",
    "warm-start --model tiny:a,b --examples e.jsonl --set lora.rank=4",
]
CODE = '''
from bioplaus import LeakyField


def made(n_input, n_output, units: int = 5):
    """Mine.

    Args:
        units: of the middle.
    """
    return LeakyField([n_input, units, n_output])
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ruled.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(*words: str) -> str:
    done = call(*words, "--print-config")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("line", LINES)
def test_what_is_printed_is_input_that_gives_the_same(line: str, here: Path) -> None:
    command, *options = line.split()
    text = printed(command, *options)
    (here / "printed.toml").write_text(text)
    assert printed(command, "printed.toml") == text
    assert {path.name for path in here.iterdir()} <= {"ruled.py", "printed.toml", "__pycache__"}


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (EqpropConfig, {"network": {"tied": True}, "average": 0.99, "seed": 3}),
        (EqpropConfig, {"phases": {"solver": "anderson", "memory": 5}}),
        (VotingConfig, {"algorithm": "rlhf", "votes": 2}),
        (NashConfig, {"eta": 0.1, "eta_end": 1e-06, "reference": (0.25, 0.75)}),
        (
            TournamentConfig,
            {"policies": ["a", 'b "c"\n'], "prompts": "\x7f\\", "preference": "x:y"},
        ),
        (PreferenceConfig, {"pairs": "p", "head": "pairwise"}),
        (GradcheckConfig, {"sizes": [3, 4, 2], "estimator": ["holomorphic"], "points": 6}),
    ],
)
def test_every_config_comes_back_equal(
    model: type[Config], given: dict[str, Any], here: Path
) -> None:
    config = load_config(model, flags=given)
    (here / "kept.toml").write_text(config_toml(config), "utf-8")
    assert load_config(model, here / "kept.toml") == config


def test_flags_file_and_sets_are_in_it_and_what_has_no_effect_is_said(here: Path) -> None:
    (here / "mine.toml").write_text('epochs = 4\n[data]\ndataset = "elsewhere"\n')
    text = printed("eqprop-run", "mine.toml", "--seed", "5", "--set", "batch_size=7")
    kept = tomllib.loads(text)
    assert (kept["epochs"], kept["seed"], kept["batch_size"]) == (4, 5, 7)
    assert kept["data"]["dataset"] == "elsewhere"
    assert "holdout_seed" not in kept["data"]
    assert "# It has no effect without holdout; give it too\n# holdout_seed = 0\n" in text
    assert "# Passes over the training examples.\n# default: 10; whole number, >= 1\n" in text
    assert "# default: not set; whole number, >= 1; or not set\n# train_size =\n" in text
    assert '# default: "vector-field"; one of vector-field, asym-ep' in text


def test_a_field_of_the_users_own_is_explained_by_its_docstring() -> None:
    text = printed("eqprop-run", "--field", "ruled.py:made")
    assert "# Of the middle.\n# default: 5; whole number\nunits = 5\n" in text


def test_mistakes_are_told_as_by_a_run() -> None:
    assert refused(call("eqprop-run", "--print-config", "--set", "epochs=0"), "epochs")
    assert refused(call("eqprop-run", "--print-config", "--seeds", "0..3"), "--seeds")
    assert refused(call("nash-md", "--print-config", "--set", "tua=1"), "tau")


def test_a_file_says_what_gradcheck_compares(here: Path) -> None:
    (here / "mine.toml").write_text("sizes = [5, 4, 3]\nbeta = [0.02]\nestimator = ['asym-ep']\n")
    assert call("gradcheck", "mine.toml", "--quiet", "--seed", "3", "--out", "g.h5").exit_code == 0
    kept = read_run("g.h5").config
    assert (kept["sizes"], kept["beta"], kept["estimator"]) == ([5, 4, 3], [0.02], ["asym-ep"])
    assert kept["seed"] == 3
    said = call("gradcheck", "mine.toml", "--from-run", "g.h5")
    assert refused(said, "mine.toml: sizes and --from-run")


def test_a_model_still_needs_a_folder() -> None:
    assert refused(call("preference-train", "--pairs", "p.jsonl"), "--out")


def test_with_resume_it_is_what_the_run_goes_on_with(here: Path) -> None:
    tiny = ["--game", "rock-paper-scissors", "--iterations", "3", "--tau", "0.7"]
    assert call("nash-md", *tiny, "--out", "run.h5").exit_code == 0
    kept = tomllib.loads(printed("nash-md", "--resume", "--out", "run.h5", "--iterations", "5"))
    assert (kept["tau"], kept["iterations"]) == (0.7, 5)


def test_every_command_with_a_config_file_has_the_option() -> None:
    import cli

    taking = [
        name
        for name, command in cli.main.commands.items()
        if any(each.name == "config" for each in command.params)
    ]
    assert taking == [
        *("eqprop-run", "eqprop-nash", "gradcheck", "warm-start", "nash-md"),
        *("preference-train", "tournament"),
    ]
    for name in taking:
        assert any(each.name == "print_config" for each in cli.main.commands[name].params)


def test_every_config_of_the_commands_is_looked_at() -> None:
    named = {place.partition(":")[2] for places in CONFIGS.values() for place in places}
    assert named == {model.__name__ for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_has_a_meaning_and_says_what_is_legal(model: type[BaseModel]) -> None:
    settings = [each for each in settings_of(model) if not _of_a_package(each)]
    assert not [each.key for each in settings if not each.meaning or not each.legal]
    assert not [each.key for each in settings if "any value" in each.legal[:9]]


def _of_a_package(setting: Setting) -> bool:
    """Whether only estimators read it that a package has added to this process."""
    named = [each.partition("estimator.name=")[2] for each in setting.readers]
    return bool(named) and all(name and name not in ESTIMATORS | ORACLES for name in named)


def test_a_docstring_names_no_setting_that_is_gone() -> None:
    looked_at = 0
    waiting: list[type[Config]] = [Config]
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if getattr(sys.modules[model.__module__], model.__name__, None) is model:
            bare = type("Bare", (), {"__doc__": model.__doc__})
            assert docstring_meanings(bare).keys() <= model.model_fields.keys(), model
            looked_at += 1
    assert looked_at > 30


def test_choices_say_who_reads_a_setting() -> None:
    found = {(each.key, each.readers): each for each in settings_of(EqpropConfig)}
    assert found["optimizer.momentum", ("optimizer.method=momentum",)].default == "0.9"
    assert found["estimator.name", ()].default == '"vector-field"'
    assert found["optimizer.clip_norm", ()].legal == "number, > 0; or not set"
    assert found["data.range", ()].legal == "list of 2: number, number; or not set"
