"""A layout: which keys a row has, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nlhf.language.prompts import Prompt
from nlhf.language.reading.messages import transcript
from nlhf.language.reading.rows import Refused, Row, malformed
from nlhf.language.reading.turns import PROMPTS, Turns, prompt_of, turns_of
from nlhf.preferences.reading.battle_rows import TIED
from nlhf.preferences.reading.headers import plain

CHOSEN = ("chosen", "chosen_response", "response_chosen", "preferred")
REJECTED = ("rejected", "rejected_response", "response_rejected", "dispreferred")
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)
"""Key pairs of the scores of the chosen and the rejected answer."""
_TIED = {plain(word) for word in TIED}


@dataclass(frozen=True)
class Pair:
    """Two answers and the share of votes for the first.

    `sided` means that the first answer is the better one in every row, so its side gives it away.
    """

    first: str
    second: str
    share: float = 1.0
    votes: float = 1.0
    sided: bool = False


@dataclass(frozen=True)
class ParsedRow:
    """The content of a row: a prompt and, on demand, the comparisons and the answer to learn.

    `several` has the same meaning as in `Turns`.
    """

    prompt: Prompt
    pairs: Callable[[], Sequence[Pair]] | None = None
    answer: Callable[[], str] | None = None
    several: bool = False


@dataclass(frozen=True)
class Layout:
    """One format in which people store prompts and answers.

    Attributes:
        name: name in the data card.
        needs: keys that a row must have; each item lists alternatives.
        read: parses a row; raises `Refused`.
        pairs: whether it holds comparisons.
        answers: whether it holds answers to learn.
        shown: the keys, for documentation and messages.
        fits: whether a row that has the keys is of this layout. Among layouts with equally many
            keys, one that also checks values wins, then the one with fewer alternatives.
    """

    name: str
    needs: tuple[tuple[str, ...], ...]
    read: Callable[[Row], ParsedRow]
    pairs: bool = False
    answers: bool = False
    shown: str = ""
    fits: Callable[[Row], bool] | None = None

    def missing(self, row: Row) -> list[str]:
        """The required keys that a row lacks."""
        return [names[0] for names in self.needs if row.one(names) is None]

    def rank(self, row: Row) -> tuple[int, bool, bool, int] | None:
        """How well a row matches this layout; None if it is of a different layout."""
        if self.missing(row) or not (self.fits is None or self.fits(row)):
            return None
        choices = sum(map(len, self.needs))
        return len(self.needs), self.fits is not None, self.asks, -choices

    @property
    def asks(self) -> bool:
        """Whether the prompt has its own key."""
        return self.needs[0] == PROMPTS


def compared(turns: Turns, pairs: Callable[[], Sequence[Pair]]) -> ParsedRow:
    """Parse a row whose answers are compared."""
    return ParsedRow(turns.prompt, pairs, several=turns.several)


def two(
    row: Row, first: Sequence[str], second: Sequence[str], prompts: Sequence[str] = PROMPTS
) -> Turns:
    """The prompt and two answers of a row; without a prompt key, the answers' common start.

    Raises:
        Refused: see `turns_of`.
    """
    key = row.one(prompts)
    prompt = None if key is None else prompt_of(row, key)
    keys = row.one(first) or first[0], row.one(second) or second[0]
    found = turns_of(prompt, row.value(*first), row.value(*second), keys)
    if key is None or not isinstance(row.values[key], str) or not transcript(row.values[key]):
        return found
    # a transcript has a space between the speaker and the text
    return replace(found, first=found.first.strip(), second=found.second.strip())


def verdict(row: Row, *names: str, first: Sequence[str], second: Sequence[str]) -> float:
    """The share of the first answer from a word that means the first, the second, or a tie.

    Raises:
        Refused: the word is missing or unknown.
    """
    value, key = row.value(*names), row.one(names) or names[0]
    word = plain(value) if isinstance(value, str) else value
    for words, share in ((first, 1.0), (second, 0.0)):
        if isinstance(word, str) and word in {plain(each) for each in words}:
            return share
    if isinstance(word, str) and word in _TIED:
        return 0.5
    raise malformed(key, f"{value!r:.40} is neither {first[0]}, {second[0]} nor tie")


def by_scores(row: Row, names: Sequence[tuple[str, str]]) -> float | None:
    """The share of the first answer from two scores; the higher one wins. None without scores.

    Raises:
        Refused: a score is not a number.
    """
    for first, second in names:
        a, b = row.number(first), row.number(second)
        if a is not None and b is not None:
            return 0.5 if a == b else float(a > b)
    return None


def chosen(row: Row, turns: Turns) -> list[Pair]:
    """The pair of a row whose first answer was chosen; equal scores make it a tie.

    Raises:
        Refused: the answers cannot be compared, or their scores contradict the choice.
    """
    first, second = turns.answers()
    share = by_scores(row, SCORES)
    if share == 0:
        raise Refused("chosen", "scores less than rejected")
    return [Pair(first, second, 1.0 if share is None else share, sided=True)]


def chosen_over_rejected(row: Row, prompts: Sequence[str] = PROMPTS) -> ParsedRow:
    """Parse a row with a chosen and a rejected answer, and perhaps a prompt.

    Raises:
        Refused: see `two`; for its comparison, see `chosen`.
    """
    turns = two(row, CHOSEN, REJECTED, prompts)
    return compared(turns, lambda: chosen(row, turns))


def preferred(pairs: Sequence[Pair]) -> str:
    """The preferred answer, as the answer to learn.

    Raises:
        Refused: no answer was preferred.
    """
    pair = pairs[0]
    if pair.share == 0.5:
        raise Refused("answer", "a tie: no answer is preferred, to be learned")
    return pair.first if pair.share > 0.5 else pair.second
