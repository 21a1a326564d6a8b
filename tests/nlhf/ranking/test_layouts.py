"""Every layout that people have is read to the same battles."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from nlhf.errors import InputError
from nlhf.preferences.reading import load_preferences, read_battles

CASES = Path(__file__).parents[2] / "cases"


def wins_of(source, **options):
    """{(item, other): wins with ties as halves} of what is read."""
    battles = read_battles(source if not isinstance(source, Path) else str(source), **options)
    wins, ties = battles.tallies()
    half = wins + ties / 2
    names = battles.items
    return {(names[i], names[j]): half[i, j] for i, j in np.argwhere(half)}


def write(tmp_path, name, text, encoding="utf-8"):
    path = tmp_path / name
    path.write_text(text, encoding)
    return path


ARENA = {("alder", "birch"): 2.5, ("birch", "alder"): 0.5, ("cedar", "birch"): 1.0}
ARENA |= {("cedar", "alder"): 0.5, ("alder", "cedar"): 0.5}


@pytest.mark.parametrize(
    ("name", "wins"),
    [
        ("battles.csv", ARENA),
        ("battles.json", ARENA),
        (
            "winner_loser.csv",
            {("alder", "birch"): 1, ("birch", "cedar"): 1, ("alder", "cedar"): 1},
        ),
        (
            "counts.csv",
            {
                ("A", "B"): 7,
                ("B", "A"): 6,
                ("A", "C"): 9,
                ("C", "A"): 4,
                ("B", "C"): 7,
                ("C", "B"): 6,
            },
        ),
        ("home_away.csv", {("A", "B"): 9, ("B", "A"): 5, ("A", "C"): 4, ("C", "A"): 2}),
        ("reversed_pair.csv", {("A", "B"): 9, ("B", "A"): 5}),
        ("semicolon.csv", {("A", "B"): 4, ("B", "A"): 3}),
        ("byte_order_mark.csv", {("A", "B"): 4, ("B", "A"): 3}),
        ("tabs.tsv", {("A", "B"): 4, ("B", "A"): 3}),
        ("other_order.csv", {("A", "B"): 4, ("B", "A"): 3, ("B", "C"): 2, ("C", "B"): 5}),
        (
            "ballots.soc",
            {
                ("Alder", "Birch"): 4,
                ("Birch", "Alder"): 2,
                ("Birch", "Cedar"): 5,
                ("Cedar", "Birch"): 1,
                ("Cedar", "Alder"): 3,
                ("Alder", "Cedar"): 3,
            },
        ),
        ("unconnected.csv", {("A", "B"): 2, ("B", "A"): 1, ("C", "D"): 3, ("D", "C"): 1}),
        ("zero_votes.csv", {("B", "C"): 2, ("C", "B"): 1}),
    ],
)
def test_the_cases(name, wins):
    assert wins_of(CASES / name) == wins


def test_tables_of_rates_and_percent():
    percent = read_battles(str(CASES / "percent.csv"))
    assert percent.shares is not None
    assert percent.shares[0] == pytest.approx([0.5, 0.54, 0.69])
    rates = read_battles(str(CASES / "rates_nan.csv"))
    assert rates.shares is not None
    assert rates.shares[0, 1] == pytest.approx(0.6)
    assert "percent" in percent.layout
    assert "rates" in rates.layout


TALLIES = [("a", "b", 4, 3, 2), ("b", "c", 2, 5, 0), ("c", "a", 1, 6, 1)]
EXPECTED = {
    ("a", "b"): 5.0,
    ("b", "a"): 4.0,
    ("b", "c"): 2.0,
    ("c", "b"): 5.0,
    ("c", "a"): 1.5,
    ("a", "c"): 6.5,
}


def rows_of_battles():
    """TALLIES as single battles: (first, second, winner's side)."""
    rows = []
    for a, b, won, lost, tied in TALLIES:
        rows += [(a, b, "a")] * won + [(a, b, "b")] * lost + [(a, b, "tie")] * tied
    return rows


def frame_of_battles(words=("model_a", "model_b", "tie")):
    """TALLIES as a data frame of single battles."""
    word = dict(zip(("a", "b", "tie"), words, strict=True))
    rows = [(a, b, word[w]) for a, b, w in rows_of_battles()]
    return pandas.DataFrame(rows, columns=["model_a", "model_b", "winner"])


@pytest.mark.parametrize(
    "header",
    [
        "item_a,item_b,wins_a,wins_b,ties",
        "Item A,Item B,Wins A,Wins B,Draws",
        "player1,player2,wins1,wins2,ties",
        "player_1,player_2,won_1,won_2,draw",
        "left_option,right_option,left_votes,right_votes,ties",
        "home_team,away_team,home_wins,away_wins,draws",
        "team.home,team.away,wins.home,wins.away,ties",
        "modelA,modelB,votesA,votesB,tie",
        "a,b,wins_a,wins_b,ties",
        "response_a,response_b,votes_a,votes_b,ties",
        "item_a,item_b,wins,losses,ties",
    ],
)
@pytest.mark.parametrize(("comma", "name"), [(",", "t.csv"), (";", "t.csv"), ("\t", "t.txt")])
def test_tallies_by_any_names(header, comma, name, tmp_path):
    lines = [header, *(",".join(map(str, row)) for row in TALLIES)]
    path = write(tmp_path, name, "\n".join(lines).replace(",", comma) + "\n", "utf-8-sig")
    assert wins_of(path) == EXPECTED


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 2, 0, 3, 1), (3, 1, 2, 0, 4)])
def test_columns_in_any_order(order, tmp_path):
    table = [("item_a", "item_b", "wins_a", "wins_b", "ties"), *TALLIES]
    text = "\n".join(",".join(str(row[n]) for n in order) for row in table)
    assert wins_of(write(tmp_path, "t.csv", text)) == EXPECTED


@pytest.mark.parametrize(
    ("words", "header"),
    [
        (("model_a", "model_b", "tie"), None),
        (("model_a", "model_b", "tie (bothbad)"), None),
        (("A", "B", "Tie"), ("player_a", "player_b", "result")),
        (("left", "right", "both_bad"), ("item_left", "item_right", "winner")),
        (("home", "away", "draw"), ("home_team", "away_team", "winner")),
        (("1", "2", "tie"), ("model_1", "model_2", "preference")),
    ],
)
def test_winners_in_any_words(words, header, tmp_path):
    frame = frame_of_battles(words)
    if header:
        frame.columns = list(header)
    path = tmp_path / "b.csv"
    frame.to_csv(path, index=False)
    assert wins_of(path) == EXPECTED


def test_a_winner_by_name_and_extra_columns_are_kept(tmp_path):
    frame = frame_of_battles()
    frame["winner"] = [{"a": a, "b": b}.get(w, w) for a, b, w in rows_of_battles()]
    frame["user_id"] = range(len(frame))
    # items are called a and b, which are sides as well: say it by longer names
    for column in ("model_a", "model_b", "winner"):
        frame[column] = [x if x == "tie" else f"the {x}" for x in frame[column]]
    path = tmp_path / "b.csv"
    frame.to_csv(path, index=False)
    wins = wins_of(path)
    assert wins == {(f"the {a}", f"the {b}"): n for (a, b), n in EXPECTED.items()}
    assert list(read_battles(str(path)).columns["user_id"])[:2] == ["0", "1"]


def test_short_names_that_are_sides_too(tmp_path):
    path = write(tmp_path, "b.csv", "model_a,model_b,winner\nB,A,A\nB,C,C\nA,C,tie\n")
    assert wins_of(path) == {
        ("A", "B"): 1,
        ("C", "B"): 1,
        ("A", "C"): 0.5,
        ("C", "A"): 0.5,
    }


def test_items_that_an_export_names_twice(tmp_path):
    text = "id,model_x,model_y,worker,winner,left,right\n0,7,9,1,left,seven,nine\n"
    text += "1,9,7,2,tie,nine,seven\n"
    path = write(tmp_path, "b.csv", text)
    assert wins_of(path) == {("seven", "nine"): 1.5, ("nine", "seven"): 0.5}
    assert read_battles(str(path)).columns["worker"] == ["1", "2"]


@pytest.mark.parametrize("kind", ["frame", "records", "lines", "array", "columns", "parquet"])
def test_containers(kind, tmp_path):
    frame = frame_of_battles()
    path = tmp_path / "b"
    if kind == "frame":
        assert wins_of(frame) == EXPECTED
    elif kind == "records":
        assert wins_of(frame.to_dict("records")) == EXPECTED
    elif kind == "lines":
        frame.to_json(path, orient="records", lines=True)
        assert wins_of(path) == EXPECTED
    elif kind == "array":
        frame.to_json(path, orient="records")
        assert wins_of(path) == EXPECTED
    elif kind == "columns":
        frame.to_json(path)
        assert wins_of(path) == EXPECTED
    else:
        frame.to_parquet(path)
        assert wins_of(path) == EXPECTED


def square():
    names = ["a", "b", "c"]
    table = [[EXPECTED.get((i, j), 0.0) for j in names] for i in names]
    return pandas.DataFrame(table, index=names, columns=names)


@pytest.mark.parametrize("diagonal", [0.0, np.nan])
@pytest.mark.parametrize("how", ["index", "no index", "other order", "frame", "array", "torch"])
def test_square_tables_of_counts(diagonal, how, tmp_path):
    table = square()
    for name in table.index:
        table.loc[name, name] = diagonal
    path = tmp_path / "s.csv"
    if how == "frame":
        assert wins_of(table) == EXPECTED
        return
    if how in ("array", "torch"):
        array = table.to_numpy()
        read = wins_of(array if how == "array" else torch.tensor(array), names=["a", "b", "c"])
        assert read == EXPECTED
        return
    if how == "other order":
        table = table.loc[["c", "a", "b"]]
    table.to_csv(path, index=how != "no index")
    assert wins_of(path) == EXPECTED


@pytest.mark.parametrize("form", ["rates", "percent", "percent sign", "parquet", "half", "comma"])
def test_square_tables_of_rates(form, tmp_path):
    P = np.array([[0.5, 0.544, 0.69], [0.456, 0.5, 0.25], [0.31, 0.75, 0.5]])
    frame = pandas.DataFrame(P, index=list("xyz"), columns=list("xyz"))
    path = tmp_path / "s.csv"
    if form == "rates":
        frame.to_csv(path)
    elif form == "percent":
        (100 * frame).round(1).to_csv(path)
    elif form == "percent sign":
        (100 * frame).round(1).astype(str).add("%").to_csv(path)
    elif form == "parquet":
        frame.to_parquet(path)
    elif form == "half":
        frame.where(np.triu(np.ones((3, 3)), 1).astype(bool)).to_csv(path)
    else:
        frame.to_csv(path, sep=";", decimal=",")
    read = read_battles(str(path))
    assert read.shares == pytest.approx(P)
    assert read.items == ("x", "y", "z")


@pytest.mark.parametrize(
    ("name", "ballots", "wins"),
    [
        ("b.soc", ["2: 1,2,3", "1: 3,2,1"], {"ab": 2, "ba": 1, "ac": 2, "ca": 1, "bc": 2, "cb": 1}),
        ("b.soi", ["2: 1,2", "1: 3"], {"ab": 2}),
        ("b.toc", ["2: 1,{2,3}"], {"ab": 2, "ac": 2, "bc": 1, "cb": 1}),
        ("b.toi", ["2: {1,2}", "1: 3,{2}"], {"ab": 1, "ba": 1, "cb": 1}),
    ],
)
def test_ballots(name, ballots, wins, tmp_path):
    head = ["# NUMBER ALTERNATIVES: 3"]
    head += [f"# ALTERNATIVE NAME {n}: {x}" for n, x in enumerate("abc", 1)]
    path = write(tmp_path, name, "\n".join([*head, *ballots]) + "\n")
    assert wins_of(path) == {tuple(pair): n for pair, n in wins.items()}
    old = ["3", "1,a", "2,b", "3,c", "3,3,2", *(b.replace(": ", ",") for b in ballots)]
    assert wins_of(write(tmp_path, name, "\n".join(old) + "\n")) == wins_of(path)


def test_one_reader_for_games_too():
    p = load_preferences(str(CASES / "battles.csv"))
    assert p.actions == ("alder", "birch", "cedar")
    assert float(p.P[0, 0, 1]) == pytest.approx(2.5 / 3)
    q = load_preferences(str(CASES / "zero_votes.csv"))
    assert q.actions == ("A", "B", "C")


def test_what_could_be_two_kinds_asks_which(tmp_path):
    path = write(tmp_path, "s.csv", ",a,b\na,0,60\nb,40,0\n")
    with pytest.raises(InputError, match="--values counts or --values percent"):
        read_battles(str(path))
    assert wins_of(path, values="counts") == {("a", "b"): 60, ("b", "a"): 40}
    assert read_battles(str(path), values="percent").shares is not None
    # the game is the same either way
    assert float(load_preferences(str(path)).P[0, 0, 1]) == pytest.approx(0.6)


def test_unusual_bytes(tmp_path):
    text = "item_a,item_b,wins_a,wins_b\nÄpfel,Birnen,4,3\n"
    expected = {("Äpfel", "Birnen"): 4, ("Birnen", "Äpfel"): 3}
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert wins_of(write(tmp_path, "t.csv", text, encoding)) == expected
    quoted = 'item_a,item_b,wins_a,wins_b\r\n"a, b","c\nd",4,3\r\n\r\n'
    assert wins_of(write(tmp_path, "t.csv", quoted)) == {("a, b", "c\nd"): 4, ("c\nd", "a, b"): 3}


def test_json_with_conversations(tmp_path):
    record = {"model_a": "x", "model_b": "y", "winner": "model_b", "turn": 1}
    record["conversation_a"] = [{"role": "user", "content": "hi"}]
    path = write(tmp_path, "b.json", json.dumps([record, {**record, "winner": "tie"}]))
    assert wins_of(path) == {("x", "y"): 0.5, ("y", "x"): 1.5}


def test_answers_to_prompts_are_items_of_their_prompt(tmp_path):
    rows = [
        ("p", "x", "y", 3, 1),
        ("p", "x", "", 2, 0),
        ("p", "x ", "x", 1, 1),
        ("q", "x", "z", 1, 4),
    ]
    names = ("prompt", "response_a", "response_b", "votes_a", "votes_b")
    lines = [json.dumps({**dict(zip(names, row, strict=True)), "ties": 1}) for row in rows]
    read = read_battles(str(write(tmp_path, "a.jsonl", "\n".join(lines))))
    assert read.groups()[0] == ("p", "q")
    assert read.items == ("(empty answer)", "x", "y", "z")
    assert read.total == 14
    assert read.notes[0] == "1 rows of an answer against itself are left out"
    assert read.notes[1].startswith("1 answers are empty")
