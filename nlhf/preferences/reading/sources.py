"""Load battles from a name, a file or an object, and convert them to preferences."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nlhf.errors import InputError
from nlhf.games import GAMES, get_game
from nlhf.preferences.base import Preferences, of_game
from nlhf.preferences.battles import Battles, check_smoothing
from nlhf.preferences.reading.delimited import read_delimited, read_text
from nlhf.preferences.reading.json_records import read_json
from nlhf.preferences.reading.layouts import Values, recognise
from nlhf.preferences.reading.objects import sheet_of
from nlhf.preferences.reading.parquet import read_parquet
from nlhf.preferences.reading.preflib import ENDINGS, read_preflib
from nlhf.preferences.reading.sheet import Sheet

SHIPPED = {
    name: Path(__file__).parents[2] / "data" / f"{name.replace('-', '_')}.csv"
    for name in ("sound-quality", "roshambo")
}
"""The vote files shipped with the package, by name."""
MOST_BYTES = 256 * 2**20


def load_preferences(source: str, smoothing: float = 0.0) -> Preferences:
    """Load preferences as games, one per context.

    Args:
        source: "sound-quality" (human votes) or "roshambo" (win probabilities), both shipped; the
            name of a built-in game; or a file, see `read_battles`.
        smoothing: pseudo-votes per side; only used for votes.

    Raises:
        InputError: an unknown name, or a file that cannot be read or has other content.
    """
    check_smoothing(smoothing)
    read = read_games(source)
    return read if isinstance(read, Preferences) else read.preferences(smoothing)


def read_games(source: str) -> Battles | Preferences:
    """Read the source for `load_preferences`; a built-in game already is a game.

    Raises:
        InputError: see `load_preferences`.
    """
    if source in GAMES:
        return of_game(get_game(source))
    return read_battles(source, even=True)


def read_battles(
    source: object,
    values: Values | None = None,
    names: Sequence[str] | None = None,
    even: bool = False,
) -> Battles:
    """Read battles, tallies or a table of wins from a file or from memory.

    The layout is inferred from header and content: battles (`model_a,model_b,winner`),
    `winner,loser`, tallies (`item_a,item_b,wins_a,wins_b`, also home and away, with or without ties
    and context), square tables of counts, rates or percent, and PrefLib's .soc, .soi, .toc and
    .toi. Files may be text with comma, semicolon or tab, JSON, JSON lines or Parquet.

    Args:
        source: a path or a shipped name; or a data frame, a list of records, or a square array.
        values: "counts", "rates" or "percent": content of an ambiguous square table.
        names: names of an array's items.
        even: read an ambiguous square table as rates instead of counts; both give the same game.

    Raises:
        InputError: it cannot be read, or fits no layout or two; the message names the layout tried.
    """
    if isinstance(source, Battles):
        return source
    if isinstance(source, str | Path):
        return _of_file(str(source), values, even)
    return recognise(sheet_of(source, names), values, even)


def _of_file(source: str, values: Values | None, even: bool) -> Battles:
    path = SHIPPED.get(source, Path(source))
    if not path.is_file():
        raise InputError(f"{source!r} {_why_unreadable(source, path)}")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path}: larger than {MOST_BYTES // 2**20} MiB; is it a table of votes?")
    with path.open("rb") as file:
        start = file.read(4096)
    if start[:4] == b"PAR1":
        read = recognise(read_parquet(path), values, even)
    else:
        text = read_text(path)
        ballots = path.suffix.lower() in ENDINGS or "# NUMBER ALTERNATIVES" in text[:4096]
        if ballots:
            read = read_preflib(text, str(path))
        else:
            read = recognise(_sheet(text, path), values, even)
    return replace(read, name=source) if source in SHIPPED else read


def _why_unreadable(source: str, path: Path) -> str:
    if path.is_dir():
        return "is a folder, not a file"
    if source in GAMES:
        return f"is a game without votes; give a file or one of {', '.join(SHIPPED)}"
    known = [*SHIPPED, *GAMES]
    close = difflib.get_close_matches(source, known, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"is neither a file nor one of {', '.join(known)}{hint}"


def _sheet(text: str, path: Path) -> Sheet:
    is_json = text.lstrip()[:1] in ("[", "{") and path.suffix.lower() not in (".csv", ".tsv")
    if is_json or path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        return read_json(text, str(path))
    return read_delimited(text, str(path))
