"""A data card: facts about a command's input, printed before the work and kept in its log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

EVENT = "data"
"""Kind of the log event that holds a card."""


@dataclass(frozen=True)
class Card:
    """Facts about one input.

    Attributes:
        source: a file, a folder or a built-in name.
        facts: by name, in the order in which they are printed; a number, a text, a list of them, or
            numbers by name ({"0": 5923, "1": 6742}). A 0 means that the input has none of these.
        warnings: what is likely to spoil the result, one line each.
    """

    source: str
    facts: Mapping[str, Any]
    warnings: Sequence[str] = field(default_factory=tuple)

    def line(self) -> str:
        """Give the card in one line, without the facts that are 0."""
        facts = [f"{name} {_brief(value)}" for name, value in self.facts.items() if _some(value)]
        return f"data: {self.source}: {', '.join(facts)}"

    def rows(self) -> list[tuple[str, str]]:
        """Give the card as a table of two columns, "fact" and "value"."""
        facts = [(name, _full(value)) for name, value in self.facts.items()]
        return [("source", self.source), *facts, *(("warning", text) for text in self.warnings)]

    def as_event(self) -> dict[str, Any]:
        """Give the card as the data of a log event of kind EVENT."""
        return {
            "source": self.source,
            "facts": dict(self.facts),
            "warnings": list(self.warnings),
        }


def cards_of(events: Iterable[Mapping[str, Any]]) -> list[Card]:
    """Find the cards among a log's events, the last one for each source.

    A log can come from anywhere: events that hold no valid card are skipped.
    """
    found: dict[str, Card] = {}
    for event in events:
        source, facts, warnings = (event.get(name) for name in ("source", "facts", "warnings"))
        if (
            event.get("kind") == EVENT
            and isinstance(source, str)
            and isinstance(facts, dict)
            and isinstance(warnings, list)
        ):
            found[source] = Card(source, facts, tuple(map(str, warnings)))
    return list(found.values())


def _some(value: Any) -> bool:
    return value is not None and value != 0 and value != "" and value != [] and value != {}


def _brief(value: Any) -> str:
    """Abbreviate a value: many numbers become their smallest and largest."""
    if isinstance(value, Mapping):
        if len(value) > 3 and all(isinstance(each, int | float) for each in value.values()):
            return f"{min(value.values()):g} to {max(value.values()):g}"
        value = [f"{name}: {each}" for name, each in value.items()]
    if isinstance(value, list | tuple):
        shown = "; ".join(map(str, value[:3]))
        return f"{shown} and {len(value) - 3} more" if len(value) > 3 else shown
    return _full(value)


def _full(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_full(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return "; ".join(map(_full, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
