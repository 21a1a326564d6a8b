"""Objectives based on preferences, one algorithm per file."""

from bioplaus_votes.objectives.base import AbstractVoting
from bioplaus_votes.objectives.best_response import BestResponse
from bioplaus_votes.objectives.extragradient import Extragradient
from bioplaus_votes.objectives.nash_ema import NashEMA
from bioplaus_votes.objectives.nash_md import NashMD
from bioplaus_votes.objectives.rlhf import RLHF
from bioplaus_votes.objectives.self_play import SelfPlay
from bioplaus_votes.objectives.view import Summary, View

ALGORITHMS: dict[str, type[AbstractVoting]] = {
    kind.name: kind for kind in (NashMD, SelfPlay, BestResponse, RLHF, Extragradient, NashEMA)
}
"""The objectives based on votes, by name."""

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
