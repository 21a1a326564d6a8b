"""Algorithms for preference games, one file per method, behind one interface.

A method is a class of this package with a `name`. The registry finds it by its file, so adding a
method changes no other file.
"""

import sys

from nlhf.algorithms.base import AbstractAlgorithm, Problem, State, Votes
from nlhf.algorithms.best_response import BestResponse
from nlhf.algorithms.exact import Exact
from nlhf.algorithms.extragradient import Extragradient
from nlhf.algorithms.fictitious_play import FictitiousPlay
from nlhf.algorithms.magnetic import Magnetic
from nlhf.algorithms.mirror_prox import MirrorProx
from nlhf.algorithms.nash_ema import NashEMA
from nlhf.algorithms.nash_md import NashMD
from nlhf.algorithms.optimistic import Optimistic
from nlhf.algorithms.rlhf import RLHF
from nlhf.algorithms.self_play import SelfPlay
from nlhf.errors import InputError
from nlhf.registry import named_in

ALGORITHMS: dict[str, type[AbstractAlgorithm]] = named_in(
    sys.modules[__name__], AbstractAlgorithm, first=("nash-md", "nash-ema", "self-play")
)
"""The algorithms on tables of preferences, by name."""


def get_algorithm(name: str) -> type[AbstractAlgorithm]:
    """Look up a method's class by name.

    Raises:
        InputError: the name is unknown.
    """
    if name not in ALGORITHMS:
        raise InputError(f"algorithm={name!r} is unknown; use one of {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]


__all__ = [
    "ALGORITHMS",
    "RLHF",
    "AbstractAlgorithm",
    "BestResponse",
    "Exact",
    "Extragradient",
    "FictitiousPlay",
    "Magnetic",
    "MirrorProx",
    "NashEMA",
    "NashMD",
    "Optimistic",
    "Problem",
    "SelfPlay",
    "State",
    "Votes",
    "get_algorithm",
]
