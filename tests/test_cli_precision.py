"""A warning of bfloat16 where the processor emulates it."""

from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from bioplaus_cli import precision
from bioplaus_cli.precision import bfloat16_doubt
from cli import main


@pytest.fixture
def taking(monkeypatch):
    """Make products in bfloat16 take so many times as long as others."""
    now = [0.0]
    linear = torch.nn.functional.linear

    def timed(times):
        def product(x, weights):
            now[0] += times if x.dtype == torch.bfloat16 else 1.0
            return linear(x, weights)

        monkeypatch.setattr(torch.nn.functional, "linear", product)
        return lambda: now[0]

    monkeypatch.setattr(precision, "SIZE", 8)
    return timed


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"precision": "bfloat16"}, "precision=bfloat16"),
        ({"precision": "float32", "mixed_precision": True}, "mixed_precision=true"),
        ({"products": "bfloat16"}, "products=bfloat16"),
    ],
)
def test_emulated_bfloat16_is_named_with_its_cost(taking, settings, named):
    clock = taking(8.0)
    text = bfloat16_doubt(SimpleNamespace(**settings), "cpu", clock)
    assert text.startswith(f"{named}: ")
    assert "8 times as long" in text
    assert bfloat16_doubt(SimpleNamespace(**settings), "cuda", clock) is None


def test_fast_bfloat16_and_other_precisions_are_not_mentioned(taking):
    clock = taking(0.6)
    assert bfloat16_doubt(SimpleNamespace(precision="bfloat16"), "cpu", clock) is None
    clock = taking(8.0)
    for settings in ({"precision": "float32"}, {"mixed_precision": False}, {"products": "full"}):
        assert bfloat16_doubt(SimpleNamespace(**settings), "cpu", clock) is None


def test_a_run_warns_in_one_line(tmp_path, monkeypatch):
    asked = []

    def doubt(settings, device):
        asked.append((settings.products, device))
        return "slow here"

    monkeypatch.setattr(precision, "bfloat16_doubt", doubt)
    words = ["--epochs", "1", "--hidden", "8", "--set", "data.train_size=50", "--device", "cpu"]
    words += ["--set", "products=bfloat16", "--quiet", "--out", str(tmp_path / "run.h5")]
    done = CliRunner().invoke(main, ["eqprop-run", *words])
    assert done.exit_code == 0, done.output
    assert asked == [("bfloat16", "cpu")]
    assert done.stderr.splitlines().count("warning: slow here") == 1
