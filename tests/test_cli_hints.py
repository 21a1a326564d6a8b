"""For an unknown option, key or name, the error line suggests the right one; exit code 2."""

from __future__ import annotations

import pytest

from tests.command_line import call


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eqprop-run", "--lr", "0.1"], "give --set optimizer.learning_rate=VALUE"),
        (["eqprop-run", "--tied", "true"], "give --set network.tied=VALUE"),
        (["eqprop-run", "--batch-size", "9"], "give --set batch_size=VALUE"),
        (["eqprop-run", "--beta", "0.1"], "give --set estimator.beta=VALUE"),
        (["eqprop-run", "--set", "optimizer.lr=0.1"], "did you mean 'optimizer.learning_rate'?"),
        (["eqprop-run", "--set", "lr=0.1"], "did you mean 'optimizer.learning_rate'?"),
        (["eqprop-run", "--estimator", "backprop"], '--estimator "backprop": unknown; use one of'),
        (["eqprop-run", "--nudging", "up"], "nudging='up': use one of one-sided"),
        (["nash-md", "--lr", "0.1"], "give --set optimizer.learning_rate=VALUE"),
        (["warm-start", "--lr", "0.1"], "give --set optimizer.learning_rate=VALUE"),
        (["preference-train", "--lr", "0.1"], "give --set learning_rate=VALUE"),
        (["eqprop-run", "--set", "estimator.points=4"], "it is read with estimator.name=holo"),
        (
            ["eqprop-run", "--estimator", "dyadic", "--nudging", "centered"],
            '--nudging "centered": has no',
        ),
        (
            ["gradcheck", "--from-run", "a.h5", "--set", "gain=1"],
            "--set gain=1 and --from-run",
        ),
        (["nash-md", "--set", "ema_rate=0.1"], "it is read with algorithm=nash-ema"),
        (["runs", "show", "a.h5", "--interval", "2"], "--interval is for --follow"),
        (["compare", "a.h5", "--overwrite"], "--overwrite is for --report"),
        (
            ["eqprop-run", "--sweep", "estimator.name=dyadic", "--set", "estimator.points=8"],
            "--set estimator.points=8: has no effect with estimator.name=dyadic",
        ),
    ],
)
def test_one_line_says_what_is_meant(arguments: list[str], said: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
