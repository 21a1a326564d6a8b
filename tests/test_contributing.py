"""CONTRIBUTING.md: its example estimator does what the text says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bioplaus import AsymEP, InputError, estimate_gradient
from bioplaus.version import version
from tests.fields import problem

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture
def clipped_norm() -> Any:
    """The class of the page's only block of Python."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(block, str(PAGE), "exec"), names)
    return names["ClippedNorm"]


@pytest.mark.parametrize("largest", [1e-3, 0.05, 1e3])
def test_the_update_is_that_of_asym_ep_up_to_its_largest_norm(clipped_norm, largest: float) -> None:
    given = problem()
    arguments = (given.field, given.x, given.y, "squared-error")
    plain = estimate_gradient(*arguments, estimator=AsymEP()).updates
    clipped = estimate_gradient(*arguments, estimator=clipped_norm(largest=largest)).updates
    for name, update in plain.items():
        share = min(1.0, largest / float(update.norm()))
        assert (clipped[name] - share * update).abs().max() <= 1e-6 * update.abs().max()


def test_a_norm_of_zero_is_refused(clipped_norm) -> None:
    with pytest.raises(InputError, match="largest=0 must be above 0"):
        clipped_norm(largest=0)


def test_the_version_to_cite_is_that_of_the_program() -> None:
    cited = re.search(r"^version: (.*)$", (PAGE.parent / "CITATION.cff").read_text("utf-8"), re.M)
    assert cited is not None
    assert cited[1] == version()
    assert f"\n## {version()}\n" in (PAGE.parent / "CHANGELOG.md").read_text("utf-8")


def test_the_places_that_it_names_exist() -> None:
    text = PAGE.read_text("utf-8")
    places = re.findall(
        r"`((?:bioplaus|nlhf|bridge|bioplaus_votes|bioplaus_cli|tests|benchmarks)/[\w/.]*)`", text
    )
    assert len(places) >= 10
    missing = [place for place in places if not (PAGE.parent / place).exists()]
    assert missing == ["bioplaus/estimators/clipped_norm.py"]
