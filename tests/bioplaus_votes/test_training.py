"""From the config of a run that learns from votes to its network and optimizer."""

from __future__ import annotations

import pytest

from bioplaus_votes.config import VotingConfig
from bioplaus_votes.training import build_voting
from bridge.config import load_config

FEW = ["data.train_size=100", "data.test_size=20", "network.hidden=[8]"]


def multipliers(*sets: str) -> dict[str, float]:
    """The multiplier of the learning rate of each parameter."""
    run = build_voting(load_config(VotingConfig, sets=[*FEW, *sets]))
    return {name: rate for rate, names in run.optimizer._groups for name in names}


def test_feedback_learns_at_a_tenth_of_the_rate() -> None:
    found = multipliers()
    assert found["feedback.1"] == 0.1
    assert {rate for name, rate in found.items() if not name.startswith("feedback")} == {1.0}
    assert set(multipliers("optimizer.rates={}").values()) == {1.0}


@pytest.mark.parametrize("network", ["network.hidden=[]", "network.tied=true"])
def test_a_network_without_feedback_weights_does_without_their_rate(network: str) -> None:
    found = multipliers(network)
    assert not any(name.startswith("feedback") for name in found)
    assert set(found.values()) == {1.0}
