"""Objectives by preferences, one algorithm a file."""

from voting.objectives.base import AbstractVoting
from voting.objectives.best_response import BestResponse
from voting.objectives.extragradient import Extragradient
from voting.objectives.nash_ema import NashEMA
from voting.objectives.nash_md import NashMD
from voting.objectives.rlhf import RLHF
from voting.objectives.self_play import SelfPlay
from voting.objectives.view import Summary, View

ALGORITHMS: dict[str, type[AbstractVoting]] = {
    kind.name: kind for kind in (NashMD, SelfPlay, BestResponse, RLHF, Extragradient, NashEMA)
}
"""The objectives made of votes, by name."""

__all__ = [
    "ALGORITHMS",
    "RLHF",
    "AbstractVoting",
    "BestResponse",
    "Extragradient",
    "NashEMA",
    "NashMD",
    "SelfPlay",
    "Summary",
    "View",
]
