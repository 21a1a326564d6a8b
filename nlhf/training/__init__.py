"""Training: the loops of `nash-md`, on tables and on language models."""

from nlhf.language.records import LanguageRecord
from nlhf.training.language import LanguageRun, build_language, train_language
from nlhf.training.tables import StepRecord, TableRun, build_tables, train_tables

__all__ = [
    "LanguageRecord",
    "LanguageRun",
    "StepRecord",
    "TableRun",
    "build_language",
    "build_tables",
    "train_language",
    "train_tables",
]
