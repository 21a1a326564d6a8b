"""Read preferences by name or from a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

from nlhf.errors import InputError
from nlhf.games import GAMES, get_game
from nlhf.preferences.base import Preferences, of_game
from nlhf.preferences.tabular import from_table
from nlhf.preferences.votes import COLUMNS, from_votes

SHIPPED = {
    name: Path(__file__).parents[1] / "data" / f"{name.replace('-', '_')}.csv"
    for name in ("sound-quality", "roshambo")
}
MOST_BYTES = 64 * 2**20


def load_preferences(source: str, smoothing: float = 0.0) -> Preferences:
    """Load preferences.

    Args:
        source: "sound-quality" (human votes) or "roshambo" (win probabilities), both shipped; the
            name of a built-in game; or a CSV file of votes (header context,item_a,item_b,
            wins_a,wins_b,ties) or of win probabilities (header of names, square).
        smoothing: pseudo-votes a side; read only for votes.

    Raises:
        InputError: an unknown name, a file that cannot be read or holds something else.
    """
    if source in GAMES:
        return of_game(get_game(source))
    path = SHIPPED.get(source, Path(source))
    if not path.is_file():
        raise InputError(
            f"game={source!r} is neither a file nor one of {', '.join([*SHIPPED, *GAMES])}"
        )
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path}: larger than {MOST_BYTES // 2**20} MiB; is it a table of votes?")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(text.strip() for text in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from None
    if not rows:
        raise InputError(f"{path}: empty; give votes ({','.join(COLUMNS)}) or a square table")
    header = [text.strip() for text in rows[0]]
    shown = source if source in SHIPPED else path
    if tuple(header) == COLUMNS:
        return from_votes(rows[1:], shown, smoothing)
    if set(header) & set(COLUMNS[1:]):
        raise InputError(f"{path}: columns {','.join(header)}; votes need {','.join(COLUMNS)}")
    return from_table(header, rows[1:], shown)
