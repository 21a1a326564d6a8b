"""Every config key changes the results of a run or is refused: no setting is idle.

Keys and values come from the configs themselves, so that new keys are tested automatically.
"""

from __future__ import annotations

import itertools
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from bioplaus.config import EqpropConfig, GradcheckConfig
from bioplaus.estimators import ESTIMATORS, ORACLES
from bridge.config import Config, load_config
from bridge.config.choices import leaves
from bridge.errors import InputError
from bridge.runlog import read_run
from nlhf.algorithms import ALGORITHMS
from nlhf.config import NashConfig, PreferenceConfig
from tests.bioplaus import idx_files
from tests.command_line import call

CLOCKS = ("seconds", "images_per_second")
MOST = 3
"""Values of a key that are tried until one changes something."""
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """A command and what the annotations of its config do not tell.

    Attributes:
        log, options: the option that names the log, and others that a run needs.
        short: settings that keep a run short.
        values: to try of keys whose annotation says too little.
        spared: keys that need not change a number, and why.
    """

    name: str
    model: type[Config]
    short: Settings
    values: Mapping[str, list[Any]]
    spared: Mapping[str, str] = field(default_factory=dict)
    log: str = "--out"
    options: tuple[str, ...] = ()


NASH = Command(
    "nash-md",
    NashConfig,
    {"iterations": 7, "log_every": 3},
    {"game": ["elo"], "reference": [[0.2, 0.3, 0.5]], "algorithm": ["rlhf"]},
    {"seed": "every command has one; a table read whole has no chance in it"},
)
EQPROP = Command(
    "eqprop-run",
    EqpropConfig,
    {"network.hidden": [4, 3], "epochs": 2, "batch_size": 2},
    {
        "data.range": [[0, 511]],
        "network.hidden": [[5]],
        "network.activation": ["sigmoid"],
        "estimator.cost": ["squared-error"],
        "estimator.nudging": ["one-sided"],
        "optimizer.rates": [{"forward.1": 0.5}],
        "estimator.max_iterations": [1],
        "estimator.adjoint_steps": [1],
        "estimator.adjoint_tolerance": [0.5],
        "estimator.dense_up_to": [1],
    },
    {
        "micro_shards": "gives the same up to rounding, by any number of processes",
        "evaluation_batch": "bounds the memory of an evaluation",
        "check_rows": "more rows than a batch has are all of them",
        "phases.gate": "drops rows, of which a small network that settles has none",
        "phases.tolerance": "ends phases that come to rest exactly no earlier",
        "phases.check_every": "looks less often at phases of few steps",
        "phases.free_steps": "limits phases that end before",
        "phases.nudged_steps": "limits phases that end before",
        "test_mirrored": "may leave the guesses on a few images as they are",
        "optimizer.clip_norm": "shortens updates that are longer",
        "estimator.most_steps": "limits a search that ends before",
    },
)
GRADCHECK = Command(
    "gradcheck",
    GradcheckConfig,
    {"sizes": [4, 5, 3], "batch": 2},
    {
        "sizes": [[4, 6, 3]],
        "activation": ["sigmoid"],
        "cost": ["cross-entropy"],
        "estimator": [["dyadic"]],
        "beta": [[0.1]],
        "nudging": ["one-sided"],
        "oracle": [["finite-difference"]],
    },
    {"brian2.tau": "", "brian2.method": "", "brian2.target": "", "steps": "limits a search"},
)

PREFERENCE = Command(
    "preference-train",
    PreferenceConfig,
    {"epochs": 2, "batch_size": 4, "hidden": 3},
    {"clip_norm": [0.01], "check": [0.5], "holdout": [0.5]},
    {
        "warmup": "a share of few updates may be none",
        "on_bad_lines": "leaves out malformed rows, of which the file has none",
    },
    "--log",
    ("--out", "MODEL"),
)


def leaf_fields(model: type[BaseModel], config: BaseModel, prefix: str = "") -> Iterator[Any]:
    """Dotted key, annotation and present value of everything that can be set."""
    for name, each in type(config).model_fields.items():
        now = getattr(config, name)
        if leaves(each.annotation):
            yield from leaf_fields(type(now), now, f"{prefix}{name}.")
        else:
            yield prefix + name, each.annotation, now


def candidates(annotation: Any, now: Any) -> list[Any]:
    """Other values than the present one, by the annotation; not all need be legal."""
    kinds = [a for a in (typing.get_args(annotation) or [annotation]) if a is not types.NoneType]
    kind = kinds[0]
    if typing.get_origin(annotation) is Literal:
        kind = annotation
    if typing.get_origin(kind) is Literal:
        return [each for each in typing.get_args(kind) if each != now]
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    if kind is bool:
        return [not now]
    if kind is int and isinstance(now, tuple):
        return [[n + 1 for n in now] or [1]]
    if kind is int:
        return [now * 2, now + 1, now - 1] if now is not None else [2, 1]
    if kind is float:
        return [now / 2, now * 1.5, now + 0.1, now - 0.1] if now is not None else [0.05, 0.5]
    return []


def outcome(command: Command, sets: Settings, out: Path) -> Any:
    """All numbers of a run but times; None if it is refused."""
    words = list(itertools.chain(*(("--set", f"{k}={_toml(v)}") for k, v in sets.items())))
    model = out.with_suffix(".model")
    options = [model if word == "MODEL" else word for word in command.options]
    result = call(command.name, *words, *options, command.log, out, "--overwrite", "--quiet")
    if result.exit_code == 2:
        return None
    assert result.exit_code in (0, 1), result.output
    run = read_run(out)
    tables = {
        f"{table}/{column}": values.tolist()
        for table, columns in run.tables.items()
        for column, values in columns.items()
        if not column.endswith(CLOCKS)
    }
    return repr(tables)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}={_toml(v)}" for k, v in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def idle(command: Command, world: Settings, folder: Path, only: str = "") -> list[str]:
    """The keys that are taken and change nothing."""
    base = {**command.short, **world}
    before = outcome(command, base, folder / "base.h5")
    assert before is not None
    assert outcome(command, base, folder / "base.h5") == before
    config = load_config(command.model, sets=[f"{k}={_toml(v)}" for k, v in base.items()])
    found = []
    for key, annotation, now in leaf_fields(command.model, config):
        if key in command.spared or key in world or not key.startswith(only):
            continue
        if len(typing.get_args(annotation)) == 1:  # what tells a choice from the others
            continue
        values = command.values.get(key) or candidates(annotation, now)
        # a text may be the name of anything
        assert values or "str" in str(annotation), f"no values to try of {key}"
        tried = 0
        for value in values:
            try:
                load_config(
                    command.model, sets=[f"{k}={_toml(v)}" for k, v in {**base, key: value}.items()]
                )
            except InputError:
                continue
            after = outcome(command, {**base, key: value}, folder / "other.h5")
            tried += after is not None
            if after != before or tried == MOST:
                found += [f"{key}={value}"] if after == before else []
                break
        else:
            found += [key] if tried else []
    return found


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param(name, marks=() if name in ("nash-md", "exact") else pytest.mark.slow)
        for name in ALGORITHMS
    ],
)
def test_of_games(algorithm: str, tmp_path: Path) -> None:
    assert idle(NASH, {"algorithm": algorithm}, tmp_path) == []


MORE: list[Settings] = [{"network.tied": True}, {"network.hidden": [1]}]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        {},
        {"network.hidden": []},
        *(pytest.param(each, marks=pytest.mark.long) for each in MORE),
    ],
    ids=str,
)
@pytest.mark.parametrize("estimator", [*ESTIMATORS, *ORACLES])
def test_of_estimators(estimator: str, network: Settings, tmp_path: Path) -> None:
    folder = idx_files.write(tmp_path / "images", idx_files.arrays())
    world = {"data.dataset": folder, "estimator.name": estimator, **network}
    if estimator == "holomorphic" and network.get("network.hidden") != []:
        world |= {"network.activation": "tanh", "network.coordinates": "membrane"}
    assert idle(EQPROP, world, tmp_path, "estimator.") == []


@pytest.mark.slow
def test_of_an_adjoint_that_is_solved_step_by_step(tmp_path: Path) -> None:
    folder = idx_files.write(tmp_path / "images", idx_files.arrays())
    world: dict[str, Any] = {
        "data.dataset": folder,
        "estimator.name": "implicit",
        "estimator.dense_up_to": 1,
    }
    world["phases.tolerance"] = 1.0  # a tenth of it bounds the tolerance of the adjoint
    assert idle(EQPROP, world, tmp_path, "estimator.") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    [
        {},
        {"phases.solver": "euler"},
        {"phases.solver": "anderson"},
        {"optimizer.method": "momentum"},
        {"optimizer.method": "adam"},
        {"network.tied": True},
        {"network.hidden": []},
        {"network.hidden": [], "phases.solver": "anderson"},
        {"network.activation": "linear", "network.coordinates": "membrane"},
    ],
    ids=str,
)
def test_of_training(world: Settings, tmp_path: Path) -> None:
    folder = idx_files.write(tmp_path / "images", idx_files.arrays())
    assert idle(EQPROP, {"data.dataset": folder, **world}, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("head", ["bradley-terry", "pairwise", "skew-symmetric"])
def test_of_preference_models(head: str, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"p{i % 9}", "chosen": f"good {i % 5} {i % 3}", "rejected": f"bad {i % 4}"}
        for i in range(30)
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert idle(PREFERENCE, {"pairs": pairs, "head": head}, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    [
        {},
        {"solver": "euler"},
        {"sizes": [4, 3], "tolerance": 1e-9},
        {"estimator": ["holomorphic"]},
        {"estimator": ["homeostasis", "continual"]},
        {"asymmetry": 0.5},
    ],
    ids=str,
)
def test_of_gradient_checks(world: Settings, tmp_path: Path) -> None:
    assert idle(GRADCHECK, world, tmp_path) == []
