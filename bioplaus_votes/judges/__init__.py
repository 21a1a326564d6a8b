"""Judges of contextual games: one table per context, a user's function, real votes."""

from bioplaus_votes.judges.base import AbstractJudge, AbstractTableJudge, require_fair, symmetrised
from bioplaus_votes.judges.functions import CoinJudge, InputJudge, VoteJudge, judge_of_function
from bioplaus_votes.judges.streams import Stream, stream_of
from bioplaus_votes.judges.tables import TableJudge, cyclic

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
