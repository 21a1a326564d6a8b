"""A ranking in words: what is decided, what is not, and with what confidence."""

from __future__ import annotations

from collections.abc import Sequence

from nlhf.ranking.results import ContextRanking
from nlhf.ranking.verdicts import LEVEL

_SHOWN = 4


def in_words(c: ContextRanking) -> list[str]:
    """Sentences that describe what one context's votes decide."""
    sentences = [_verdict(c), *_connection(c)]
    known = [item for item in c.items if item.lottery == item.lottery]
    played = [item for item in known if item.lottery >= 0.0005]
    lottery = ", ".join(f"{short(item.name)} {item.lottery:.3f}" for item in played[:8])
    rest = f" and {len(played) - 8} more" if len(played) > 8 else ""
    sentences.append(f"The maximal lottery plays {lottery}{rest}; {_lottery_doubt(c)}")
    pairs = len(c.items) * (len(c.items) - 1) // 2
    if c.beats[0, -1] == c.beats[0, -1]:
        open_ = len(c.unordered)
        unordered = set(c.unordered)
        beside = sum((a.name, b.name) in unordered for a, b in _neighbours(c))
        sentences.append(
            f"The votes order {pairs - open_} of {pairs} pairs with {LEVEL:.0%}, and "
            f"{len(c.items) - 1 - beside} of {len(c.items) - 1} neighbours in the ranking."
        )
    sentences += _cycles(c)
    if c.position is not None:
        p = c.position
        sure = "" if p.low > 0 or p.high < 0 else ", which may be chance"
        sentences.append(
            f"Being named first changes the log-odds of winning by {p.log_odds:+.3f} "
            f"[{p.low:+.3f}, {p.high:+.3f}]{sure}; the scores are not corrected for it."
        )
    return [sentence for sentence in sentences if sentence]


def verdict_line(c: ContextRanking) -> str:
    """The verdict in a few words, for a heading."""
    if c.verdict == "winner":
        return f"{short(c.context, 60)}: winner {short(c.winner or '')} ({c.probability:.1%})"
    if c.verdict == "cycle":
        return f"{short(c.context, 60)}: cycle {_going(c.top_cycle, ' > ')}"
    return f"{short(c.context, 60)}: undecided"


def _verdict(c: ContextRanking) -> str:
    if c.verdict == "winner":
        name = short(c.winner or "")
        return f"{name} wins: it beats each other item in {c.probability:.1%} of resamples."
    if c.verdict == "cycle":
        going = _going(c.top_cycle, " beats ")
        return (
            f"There is no winner but a cycle: {going}, on top in {c.probability:.1%} of resamples."
        )
    if c.beats[0, -1] != c.beats[0, -1]:
        why = "numbers of battles are unknown" if c.battles != c.battles else "nothing is resampled"
        return f"Undecided: {why}, so that nothing is known of sampling errors."
    best = max(c.items, key=lambda item: item.first)
    text = f"Undecided: {short(best.name)} beats each other item in {best.first:.1%} of resamples"
    text += f", and {LEVEL:.0%} are needed." if best.first < LEVEL else ", but on too few votes."
    if c.further is not None:
        text += (
            f" About {c.further:,} further battles on {_pairs(c.further_pairs)} would decide it in "
            "half of the cases simulated."
        )
    elif c.further_pairs:
        text += f" Not even {c.further_tried:,} further battles would, in half of the cases."
    return text


def _lottery_doubt(c: ContextRanking) -> str:
    """The sampling uncertainty of the lottery, besides its numerical error."""
    numerical = f"its numerical exploitability is {c.exploitability:.1g}"
    if c.beats[0, -1] != c.beats[0, -1]:
        return f"{numerical}; its sampling error is unknown."
    many = f"{len(c.items):,} items are too many to solve it in all {c.resamples:,} resamples"
    if not c.lotteries:
        return f"{numerical}; its sampling error is unknown, since {many}."
    part = f" ({many}: these are {c.lotteries:,})" if c.lotteries < c.resamples else ""
    widest = max(c.items, key=lambda item: item.lottery_high - item.lottery_low)
    often = sum(item.in_support >= LEVEL for item in c.items)
    needed = _count(often, "item") if often else "no item"
    if widest.lottery_high - widest.lottery_low < 0.01:
        return f"{numerical}, and its weights differ by less than 0.01 between resamples{part}."
    return (
        f"{numerical}, but sampling moves the weight of {short(widest.name)} between "
        f"{widest.lottery_low:.2f} and {widest.lottery_high:.2f}; {needed} of the lottery "
        f"had to be in it in {LEVEL:.0%} of the resamples{part}."
    )


def _connection(c: ContextRanking) -> list[str]:
    sentences = []
    if c.never_compared:
        sentences.append(
            f"Never compared: {_pairs(c.never_compared)}; the lottery takes them as even."
        )
    if len(c.islands) > 1:
        parts = "; ".join(_names(part) for part in c.islands[:_SHOWN])
        more = "; ..." if len(c.islands) > _SHOWN else ""
        sentences.append(
            f"No battle joins {parts}{more}: scores compare within each set only, and nobody is "
            "first by Bradley-Terry."
        )
    if c.unbounded:
        sentences.append(
            f"Some items lost, or won, every battle against others ({_names(c.unbounded[0])} "
            f"among them): their scores have no bound; those shown add {c.smoothing:g} "
            "pseudo-votes to each side of a compared pair."
        )
    return sentences


def _cycles(c: ContextRanking) -> list[str]:
    if c.misfit is None or not c.misfit.freedom:
        return []
    fits = "cannot explain" if c.misfit.p <= 1 - LEVEL else "can explain"
    text = (
        f"Scores {fits} the votes (likelihood ratio {c.misfit.statistic:.1f} on "
        f"{_count(c.misfit.freedom, 'degree')} of freedom, p = {c.misfit.p:.2g})"
    )
    if not c.cycles:
        return [text + "; no three items go round in 5% of resamples."]
    best = c.cycles[0]
    going = _going(best.items, " > ")
    return [f"{text}; the likeliest cycle is {going}, in {best.probability:.1%} of resamples."]


def _going(items: Sequence[str], word: str) -> str:
    return word.join(short(name) for name in (*items, items[0]))


def _neighbours(c: ContextRanking) -> list[tuple]:
    return list(zip(c.items, c.items[1:], strict=False))


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def short(name: str, most: int = 40) -> str:
    """A name on one line, shortened; items can be whole answers."""
    name = " ".join(name.split())
    return name if len(name) <= most else name[: most - 3] + "..."


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(short(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    shown = ", ".join(f"{short(a)} and {short(b)}" for a, b in pairs[:_SHOWN])
    more = len(pairs) - _SHOWN
    return shown + (f" and {_count(more, 'more pair')}" if more > 0 else "")
