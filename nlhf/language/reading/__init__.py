"""Read prompts, answers and comparisons: one file reader, one file per layout."""

from nlhf.language.reading.sifting import Account, Sifted, digest
from nlhf.language.reading.texts import (
    read_answers,
    read_comparisons,
    read_examples,
    read_prompts,
)

__all__ = [
    "Account",
    "Sifted",
    "digest",
    "read_answers",
    "read_comparisons",
    "read_examples",
    "read_prompts",
]
