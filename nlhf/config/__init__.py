"""The typed configs of games, language models and preference models, and what they describe."""

from nlhf.config.judges import get_judge, get_reward, judge_origins, make_judge
from nlhf.config.language import (
    LanguageConfig,
    make_language_optimizer,
    make_movement,
    make_objective,
    make_sampling,
)
from nlhf.config.preference import PreferenceConfig, make_fit
from nlhf.config.tables import NashConfig, make_algorithm, make_reference, read_preferences
from nlhf.config.tournament import TournamentConfig, make_cut_sampling
from nlhf.config.warm_start import WarmStartConfig, make_warm_start

__all__ = [
    "LanguageConfig",
    "NashConfig",
    "PreferenceConfig",
    "TournamentConfig",
    "WarmStartConfig",
    "get_judge",
    "get_reward",
    "judge_origins",
    "make_algorithm",
    "make_cut_sampling",
    "make_fit",
    "make_judge",
    "make_language_optimizer",
    "make_movement",
    "make_objective",
    "make_reference",
    "make_sampling",
    "make_warm_start",
    "read_preferences",
]
