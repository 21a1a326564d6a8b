"""Compute what the tables say of one run from its log."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from bioplaus.config import EqpropConfig, make_dataset, restore_field
from bioplaus.fields import LayeredField
from bioplaus.training import Supervised
from bioplaus.training.run import fitted
from bridge.config import load_config
from bridge.runlog import read_run
from experiments.cifar10.measures import described


def judged(path: Path, device: str) -> dict[str, float]:
    """Compute the columns of one run from its log; cached next to it."""
    kept = path.with_suffix(".json")
    if kept.is_file():
        return json.loads(kept.read_text())
    run = read_run(path)
    config = load_config(EqpropConfig, base=run.config, base_name=str(path))
    table = run.table("epochs")
    seconds = _differences(table["seconds"].tolist())
    found = {"seconds an epoch": float(statistics.median(seconds))} if seconds else {}
    if run.status == "finished":
        field = restore_field(run.config, run.weights()[1]).to(device)
        assert isinstance(field, LayeredField)
        data = fitted(make_dataset(config.data, field.dtype), field, Supervised())
        found |= described(config, field, data)
        found["test accuracy of the log"] = 100 - float(table["test_error"][-1])
    kept.write_text(json.dumps(found, indent=1))
    return found


def _differences(seconds: Sequence[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise([0.0, *seconds])]
