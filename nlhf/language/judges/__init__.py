"""Judges by name, one source per file: `reward:MODEL`, `pair:MODEL`, `judge:URL#model`, a folder.

A source is a class of this package with a `prefix`. The registry finds it by its file, so adding a
source changes no other file.
"""

from nlhf.language.judges.base import AbstractSource, Opening
from nlhf.language.judges.folder import ModelJudge
from nlhf.language.judges.registry import SOURCES, operational, source_of

__all__ = [
    "SOURCES",
    "AbstractSource",
    "ModelJudge",
    "Opening",
    "operational",
    "source_of",
]
