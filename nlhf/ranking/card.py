"""What was read: the facts of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nlhf.preferences.battles import Battles
from nlhf.ranking.results import ContextRanking


def card(
    battles: Battles,
    contexts: Sequence[str],
    found: Sequence[ContextRanking],
    cluster: str | None,
) -> dict[str, Any]:
    """The facts of what was read, a key each."""
    last = found[-1]
    counted = battles.shares is None
    return {
        "name": battles.name,
        "layout": battles.layout,
        "battles": battles.total if counted else None,
        "ties": battles.ties if counted else None,
        "items": len(battles.items),
        "contexts": len(contexts) - (contexts[-1].startswith("pooled") and len(contexts) > 1),
        "pairs": len(battles.items) * (len(battles.items) - 1) // 2,
        "never_compared": len(last.never_compared),
        "islands": len(last.islands),
        "cluster": cluster,
        "clusters": last.clusters,
        "notes": list(battles.notes),
    }


def facts_told(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts in the words of a data card, in the order in which they are told."""
    return {
        "layout": facts["layout"],
        "battles": facts["battles"],
        "ties": facts["ties"],
        "items": facts["items"],
        "contexts": facts["contexts"] if facts["contexts"] > 1 else None,
        "pairs": facts["pairs"],
        "pairs never compared": facts["never_compared"],
        "sets that no battle joins": facts["islands"] if facts["islands"] > 1 else None,
        "resampled as a whole": facts["cluster"],
        "clusters": facts["clusters"],
    }
