"""A data card is printed in one line, kept in a log, and read back from it."""

from __future__ import annotations

from pathlib import Path

from bridge import open_run
from bridge.card import EVENT, Card, cards_of
from bridge.runlog import compare_runs, read_run
from bridge.runlog.origins import provenance_tables
from tests.bridge.records import Step, row

CARD = Card(
    "digits",
    {
        "train images": 60000,
        "duplicates": 0,
        "range": "0 to 255",
        "train items a class": {str(k): 5000 + k for k in range(10)},
        "share": 0.125,
        "left out": ["line 3: no answer", "line 7: no answer", "a", "b"],
    },
    ("2 images are black",),
)


def test_the_line_leaves_out_what_there_is_none_of() -> None:
    assert CARD.line() == (
        "data: digits: train images 60000, range 0 to 255, train items a class 5000 to 5009, "
        "share 0.125, left out line 3: no answer; line 7: no answer; a and 1 more"
    )


def test_the_table_tells_all() -> None:
    rows = dict(CARD.rows())
    assert rows["duplicates"] == "0"
    assert rows["train items a class"].startswith("0: 5000, 1: 5001, ")
    assert rows["warning"] == "2 images are black"


def test_a_log_gives_back_the_card_that_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with open_run(path, tables={"metrics": Step}, config={"a": 1}, seed=0) as log:
        log.event(EVENT, **CARD.as_event())
        log.log("metrics", row(1))
    read = cards_of(read_run(path).events)
    assert read == [CARD]
    tables = provenance_tables(compare_runs([path]))
    (data,) = [rows for title, _, rows in tables if title == "Data of #1"]
    assert list(data) == CARD.rows()


def test_what_is_no_card_is_passed_over() -> None:
    odd = [
        {"kind": EVENT},
        {"kind": EVENT, "source": 3, "facts": {}, "warnings": []},
        {"kind": EVENT, "source": "a", "facts": [], "warnings": []},
        {"kind": "other", "source": "a", "facts": {}, "warnings": []},
    ]
    assert cards_of(odd) == []
    nested = {
        "kind": EVENT,
        "source": "a",
        "facts": {"b": {"c": [1, {"d": None}]}},
        "warnings": [1],
    }
    (card,) = cards_of([nested])
    assert card.rows() == [("source", "a"), ("b", "c: 1; d: None"), ("warning", "1")]
