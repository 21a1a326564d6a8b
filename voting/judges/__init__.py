"""Judges of contextual games: a table a context, a user's function, real votes."""

from voting.judges.base import AbstractJudge, AbstractTableJudge, require_fair, symmetrised
from voting.judges.functions import CoinJudge, InputJudge, VoteJudge, judge_of_function
from voting.judges.streams import Stream, stream_of
from voting.judges.tables import TableJudge, cyclic

__all__ = [
    "AbstractJudge",
    "AbstractTableJudge",
    "CoinJudge",
    "InputJudge",
    "Stream",
    "TableJudge",
    "VoteJudge",
    "cyclic",
    "judge_of_function",
    "require_fair",
    "stream_of",
    "symmetrised",
]
