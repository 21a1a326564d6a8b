"""The same votes written in each layout that is known are read to the same tallies."""

import json

import numpy as np
import pandas
import pytest

from nlhf.preferences.reading import read_battles
from nlhf.ranking.rank import with_counts

NAMES = ("a", "b", "c")
WON = np.array([[0, 4, 3], [2, 0, 5], [3, 1, 0]])
"""What six ballots say: a > b > c three times, b > c > a twice, c > a > b once."""
BALLOTS = [(3, "abc"), (2, "bca"), (1, "cab")]


def battles_of_ballots():
    """WON as single battles."""
    pairs = [(i, j) for i in range(3) for j in range(3) for _ in range(WON[i, j])]
    return [(NAMES[i], NAMES[j]) for i, j in pairs]


def square(table, corner):
    """A table as CSV, with names of rows behind a corner or without."""
    rows = [",".join(map(str, row)) for row in table]
    if corner is None:
        return "\n".join([",".join(NAMES), *rows]) + "\n"
    rows = [f"{name},{row}" for name, row in zip(NAMES, rows, strict=True)]
    return "\n".join([corner + "," + ",".join(NAMES), *rows]) + "\n"


def preflib(kind):
    """BALLOTS as a file of PrefLib."""
    lines = [f"# ALTERNATIVE NAME {n}: {name}" for n, name in enumerate(NAMES, 1)]
    lines = [f"# FILE NAME: x.{kind}", "# NUMBER ALTERNATIVES: 3", *lines]
    for times, order in BALLOTS:
        lines.append(f"{times}: {','.join(str(NAMES.index(name) + 1) for name in order)}")
    return "\n".join(lines) + "\n"


def table_of(columns, rows):
    """Rows as CSV."""
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n"


RECORDS = [{"model_a": a, "model_b": b, "winner": "model_a"} for a, b in battles_of_ballots()]
PAIRS = [(NAMES[i], NAMES[j], int(WON[i, j]), int(WON[j, i])) for i, j in ((0, 1), (1, 2), (2, 0))]
RATES = np.where(np.eye(3, dtype=bool), 0.5, WON / 6)
LAYOUTS = {
    "battles.csv": table_of(RECORDS[0], [row.values() for row in RECORDS]),
    "winners.csv": table_of(("winner", "loser"), battles_of_ballots()),
    "tallies.csv": table_of(("item_a", "item_b", "wins_a", "wins_b"), PAIRS),
    "home.csv": table_of(("home.team", "away.team", "home.wins", "away.wins"), PAIRS),
    "named.csv": square(WON, "name"),
    "unnamed.csv": square(WON, None),
    "rates.csv": square(RATES, "name"),
    "percent.csv": square(100 * RATES, "name"),
    "ballots.soc": preflib("soc"),
    "ballots.soi": preflib("soi"),
    "ballots.toc": preflib("toc"),
    "ballots.toi": preflib("toi"),
    "array.json": json.dumps(RECORDS),
    "lines.jsonl": "\n".join(map(json.dumps, RECORDS)),
    "frame.parquet": "",
}


def test_there_are_thirteen_layouts_and_more():
    assert len(LAYOUTS) >= 13


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_votes_in_every_layout(name, tmp_path):
    path = tmp_path / name
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
        pandas.DataFrame(RECORDS).to_parquet(path)
    else:
        path.write_text(LAYOUTS[name])
    read = read_battles(str(path))
    if read.shares is not None:
        read = with_counts(read, 6)
    wins, ties = read.tallies()
    order = [read.items.index(item) for item in NAMES]
    np.testing.assert_array_equal((wins + ties / 2)[np.ix_(order, order)], WON)
