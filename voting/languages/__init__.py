"""Languages whose texts can be listed, and networks that write them."""

from voting.languages.game import LanguageGame, SolvedLanguage, language_of, rhyme
from voting.languages.objective import LanguageNash
from voting.languages.writer import Sight, conditionals, joined, write

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
