"""docs/learning-from-votes.md: its code runs, and its figures are those of the game."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from bioplaus_votes.judges import cyclic
from bioplaus_votes.rules import exact, natural
from bioplaus_votes.solved import exploitability
from nlhf.mixture import geometric_mixture

PAGE = Path(__file__).parents[2] / "docs" / "learning-from-votes.md"


def test_every_block_of_code_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    names: dict[str, Any] = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["history"].rows[-1].exploitability < 0.4
    assert names["policy"].log_prob(names["patterns"]).shape == (5, 5)


@pytest.mark.parametrize(("mixture", "figure"), [(0.0, 0.0137), (0.1, 0.0173), (0.25, 0.0236)])
def test_the_fixed_points_of_nash_md_have_the_figures_of_the_page(
    mixture: float, figure: float
) -> None:
    P = cyclic(10).P[:1]
    log_mu = torch.full((1, 10), 0.1, dtype=torch.float64).log()
    log_pi = log_mu.clone()
    for _ in range(4000):
        other = geometric_mixture(log_pi, log_mu, mixture)
        g = natural(exact(log_pi, P, other, log_mu, 0.05), log_pi)
        log_pi = torch.log_softmax(log_pi + 0.1 * g, -1)
    assert float(exploitability(P, log_pi, log_mu)) == pytest.approx(figure, abs=5e-5)
    assert str(figure).removeprefix("0") in PAGE.read_text("utf-8")
