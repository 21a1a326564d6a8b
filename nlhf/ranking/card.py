"""What was read: the facts of the data, and one line of them."""

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
        "contexts": len(contexts) if len(contexts) == 1 else len(contexts) - 1,
        "pairs": len(battles.items) * (len(battles.items) - 1) // 2,
        "never_compared": len(last.never_compared),
        "islands": len(last.islands),
        "cluster": cluster,
        "clusters": last.clusters,
        "notes": list(battles.notes),
    }


def card_line(facts: dict[str, Any]) -> str:
    """One line of the facts, for before the work's results."""
    parts = [f"{facts['items']} items"]
    if facts["battles"] is not None:
        parts.insert(0, f"{facts['battles']:,.10g} battles")
        parts.append(f"{facts['ties']:,.10g} ties")
    if facts["contexts"] > 1:
        parts.append(f"{facts['contexts']} contexts")
    missing, pairs = facts["never_compared"], facts["pairs"]
    parts.append(f"{missing} of {pairs} pairs never compared" if missing else f"{pairs} pairs")
    if facts["clusters"] is not None:
        parts.append(f"{facts['clusters']:,} {facts['cluster'] or 'ballots'} resampled whole")
    return f"{facts['name']}: {facts['layout']}: {', '.join(parts)}"
