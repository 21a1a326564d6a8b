"""Facts about compared answers, and removal of pairs from which nothing can be learnt."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nlhf.errors import InputError
from nlhf.language.comparisons import Comparison
from nlhf.language.prompts import key_of
from nlhf.language.reading.sifting import Account

NAMED = 20
"""Largest number of left-out lines that are named."""


@dataclass(frozen=True)
class Facts:
    """Facts by name, in order of display, and warnings, one per line."""

    of: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def read_as(self, account: Account, name: str = "") -> Facts:
        """Add how a source was read, and the lines that were left out.

        Args:
            account: how the source was read.
            name: name of the source, if there are several.
        """
        facts = dict(self.of)
        known = facts.pop("layout", {})
        forms = dict.fromkeys((*facts.pop("read as", "").split("; "), account.form))
        layouts = {each: known.get(each, 0) + n for each, n in account.layouts.items()}
        reading = {"read as": "; ".join(filter(None, forms)), "layout": {**known, **layouts}}
        warnings = list(self.warnings)
        for lines, key, why in (
            (account.empty, "empty", "lines are left out, for something in them is empty"),
            (account.refused, "refused", f"of {account.rows} lines are refused and left out"),
        ):
            if lines:
                named = [f"{name}, {line}" if name else line for line in lines]
                facts["lines left out"] = facts.get("lines left out", 0) + len(lines)
                facts[key] = [*facts.get(key, []), *named][:NAMED]
                shown = "; ".join(named[:3]) + ("; ..." if len(lines) > 3 else "")
                warnings.append(f"{len(lines)} {why}: {shown}")
        return Facts({**reading, **facts}, tuple(warnings))


def sift(
    comparisons: Sequence[Comparison],
    reads: Callable[[Comparison], tuple[Hashable, Hashable]],
    source: str,
) -> tuple[list[Comparison], Facts]:
    """Drop pairs whose two answers look the same to the model, and describe the rest.

    Nothing can be learnt from such a pair, whose loss is always ln 2.

    Args:
        comparisons: all comparisons read.
        reads: returns what the model reads of each side, e.g. its tokens after truncation.
        source: the source of the comparisons, for messages.

    Returns:
        The pairs to learn from, and facts about all pairs.

    Raises:
        InputError: no pair is left.
    """
    identical = [c.a.strip() == c.b.strip() for c in comparisons]
    merged = [
        not same and len(set(reads(c))) == 1 for c, same in zip(comparisons, identical, strict=True)
    ]
    kept = [c for c, *out in zip(comparisons, identical, merged, strict=True) if not any(out)]
    reason = f"{sum(identical)} of {len(comparisons)} pairs have two identical answers"
    if any(merged):
        reason += (
            f", {sum(merged)} have answers that the model reads as one (cut off, or same words)"
        )
    if not kept:
        raise InputError(f"{source}: {reason}; nothing is left to learn from, give other pairs")
    contradictory = _contradictory(kept)
    empty = sum(not answer.strip() for c in comparisons for answer in (c.a, c.b))
    warnings = [f"{reason}: left out"] if len(kept) < len(comparisons) else []
    if contradictory:
        warnings.append(f"{contradictory} pairs are decided both ways: no model can fit them all")
    if empty:
        warnings.append(f"{empty} answers are empty: a model can win by telling these")
    facts = {
        "pairs": len(comparisons),
        "prompts": len({key_of(c.prompt) for c in comparisons}),
        "votes": sum(c.votes for c in comparisons),
        "ties": sum(c.share == 0.5 for c in comparisons),
        "pairs given again": len(kept) - len({_sorted(c) for c in kept}),
        "pairs decided both ways": contradictory,
        "empty answers": empty,
        "identical answers": sum(identical),
        "answers that the model reads as one": sum(merged),
        "left out": len(comparisons) - len(kept),
    }
    return kept, Facts(facts, tuple(warnings))


def _sorted(c: Comparison) -> tuple[str, ...]:
    return (key_of(c.prompt), *sorted((c.a, c.b)))


def _contradictory(comparisons: Sequence[Comparison]) -> int:
    """Count pairs of answers to one prompt that each won against the other in some line."""
    sides: dict[tuple[str, ...], set[bool]] = {}
    for c in comparisons:
        if c.share != 0.5:
            first_won = (c.a <= c.b) == (c.share > 0.5)
            sides.setdefault(_sorted(c), set()).add(first_won)
    return sum(len(found) == 2 for found in sides.values())
