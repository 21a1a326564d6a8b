"""Languages whose texts can be enumerated, and networks that write them."""

from bioplaus_votes.languages.game import LanguageGame, SolvedLanguage, language_of, rhyme
from bioplaus_votes.languages.objective import LanguageNash
from bioplaus_votes.languages.writer import Sight, conditionals, joined, write

__all__ = [
    "LanguageGame",
    "LanguageNash",
    "Sight",
    "SolvedLanguage",
    "conditionals",
    "joined",
    "language_of",
    "rhyme",
    "write",
]
