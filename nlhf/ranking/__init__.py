"""Ranking: Bradley-Terry scores and the maximal lottery, and what the votes decide."""

from nlhf.ranking.rank import rank
from nlhf.ranking.results import Ranking

__all__ = ["Ranking", "rank"]
