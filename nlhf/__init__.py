"""Nash learning from human feedback: equilibria of preference games."""

from nlhf.oracle import solve_equilibrium, unregularised_equilibrium
from nlhf.preferences.reading import load_preferences
from nlhf.ranking import rank
from nlhf.regularised_game import best_response, certificate, exploitability, nash_conv
from nlhf.tabular import Sweep, run_tabular

__all__ = [
    "Sweep",
    "best_response",
    "certificate",
    "exploitability",
    "load_preferences",
    "nash_conv",
    "rank",
    "run_tabular",
    "solve_equilibrium",
    "unregularised_equilibrium",
]
