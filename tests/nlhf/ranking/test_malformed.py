"""What is malformed or ambiguous is refused in one line that says what it was taken for."""

import pytest

from nlhf.errors import InputError
from nlhf.preferences.reading import read_battles
from tests.command_line import call, refused

ARENA = "model_a,model_b,winner\n"
NAMES = "# NUMBER ALTERNATIVES: 2\n# ALTERNATIVE NAME 1: a\n# ALTERNATIVE NAME 2: b\n"
BAD = [
    ("b.csv", "", "empty"),
    ("b.csv", "just words\nmore words\n", "one column only"),
    ("b.csv", ARENA, "no battles"),
    ("b.csv", ARENA + "x,y,model_c\n", ":2: winner 'model_c' is neither 'x' nor 'y'"),
    ("b.csv", ARENA + "x,y,\n", ":2: winner is empty"),
    ("b.csv", ARENA + "x,x,model_a\nx,y,tie\n", ":2: 'x' against itself"),
    ("b.csv", ARENA + "x,,model_a\n", ":2: model_b is empty"),
    ("b.csv", ARENA + "x,y,model_a,3\n", ":2: 4 values under a header of 3"),
    ("b.csv", ARENA + "b,a,a\n", ":2: winner 'a' is the name of an item and could mean model_a"),
    ("b.csv", ARENA + "tie,y,tie\n", "could mean a tie as well"),
    ("b.csv", "model_a,model_b,language\nx,y,en\n", "taken for battles or tallies; it needs"),
    ("b.csv", "model_a,model_b,winner,wins_a,wins_b\nx,y,model_a,1,0\n", "battles or tallies?"),
    ("b.csv", "model_a,model_a,winner\nx,y,tie\n", "two columns 'model_a'"),
    ("b.csv", "winner,language\nx,en\n", "taken for battles; it needs 'loser'"),
    ("b.csv", "winner,loser\nx,x\nx,y\n", ":2: 'x' against itself"),
    ("b.csv", "winner,loser,tie\nx,y,perhaps\n", ":2: tie 'perhaps' is neither yes nor no"),
    ("b.csv", "home_team,away_team,home_score,away_score\nx,y,3,1\n", "scores are no numbers"),
    ("b.csv", "wins_a,wins_b\n3,one\n", "columns of the two items"),
    ("b.csv", "item_a,item_b,wins_a,wins_b\nx,y,3,-1\n", ":2: wins_b: -1 votes"),
    ("b.csv", "item_a,item_b,wins_a,wins_b\nx,y,inf,1\n", ":2: wins_a: inf votes"),
    ("b.csv", "item_a,item_b,wins_a,wins_b\nx,y,0.62,0.38\n", "wins_a: 0.62 votes"),
    ("b.csv", "item_a,item_b,wins_a,wins_b\nx,y,1_0,1\n", "'1_0' is no number"),
    ("b.csv", "context,thing,other\nx,y,z\n", "no layout that is known"),
    ("b.csv", ",a,b\na,,60\nb,41.2,\n", "sum to 100"),
    ("b.csv", ",a,b,c\na,,60,55\nb,40,,52\nc,45,53,\n", "do not sum|looks like percent"),
    ("b.csv", ",a,b,c\na,,60,55\nb,40,,52\nc,45,58,\n", "looks like percent, but b and c sum"),
    ("b.csv", ",a,b\na,0,60\nb,40,0\n", "counts of 100 battles a pair, or percent"),
    ("b.csv", ",a,b\na,0,1\nb,0,0\n", "counts of one battle a pair, or rates"),
    ("b.csv", ",a,b\na,0,7\nb,,0\n", "wins on one side and nothing on the other"),
    ("b.csv", ",a,b\na,3,7\nb,6,0\n", "a against itself has 3 wins"),
    ("b.csv", ",a,b\na,0,7.3\nb,6,0\n", "taken for a square table"),
    ("b.csv", ",a,b\na,0,3\nb,-3,0\n", "'-3' is no number >= 0"),
    ("b.csv", ",a,b\na,0,7\nc,6,0\n", "row 'c' has no column"),
    ("b.csv", ",a,b,c\na,0,7,1\nb,6,0,2\n", "2 rows for 3 actions"),
    ("b.csv", ",a,b\na,,50%\nb,50,\n", "some entries have % and some have not"),
    ("b.csv", "0.5,0.6\n0.4,0.5\n0.4,0.5\n", "rows for 2 actions|first line holds numbers"),
    ("b.csv", ",a,b\na,,\nb,,\n", "without a number"),
    ("b.soc", NAMES + "2: 1,2\n1: 1\n", ":5: ranks 1 of 2"),
    ("b.soc", NAMES + "2: {1,2}\n", ":4: a tie on a ballot of a strict order"),
    ("b.soi", NAMES + "2: 1,3\n", ":4: alternative 3 has no name"),
    ("b.toi", NAMES + "2: 1,1\n", "stands twice"),
    ("b.soc", NAMES + "1,2\n", "is no ballot"),
    ("b.soc", NAMES, "no ballot below"),
    ("b.soc", "hello\n", "no header of PrefLib"),
    ("b.json", "[1, 2]", "is no JSON object"),
    ("b.json", '{"a": ', "neither JSON nor JSON lines"),
    ("b.json", "[]", "without a record"),
    ("b.jsonl", '{"model_a": "x", "model_b": "y", "winner": "model_a"}\nbroken\n', ":2: .*no JSON"),
    ("b.jsonl", '{"prompt": "p", "chosen": "c", "rejected": "r"}\n', "preference-train learns"),
    ("b.csv", "PAR1 is no parquet", "cannot be read as Parquet"),
    ("b.csv", 'a,b,"c\n', "cannot be read as CSV|one column"),
]


def test_there_are_twenty_malformed_tables_and_more():
    assert len({text for _, text, _ in BAD}) >= 20


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_refused_by_the_reader(name, text, message, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_battles(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("n", [3, 9, 17, 28, 33, 39])
def test_refused_by_the_command(n, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, text, _ = BAD[n]
    (tmp_path / name).write_text(text)
    assert refused(call("rank", name, "--quiet"), name)
    assert refused(call("nash-md", "--game", name, "--quiet"), name)
    assert list(tmp_path.rglob("*.h5")) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere.csv"], ["nowhere.csv", "neither a file"]),
        (["sound-quality", "--by", "language"], ["language", "context"]),
        (["sound-quality", "--cluster", "user"], ["user"]),
        (["sound-quality", "--bootstrap", "-1"], ["--bootstrap"]),
        (["sound-quality", "--ties", "thirds"], ["thirds", "davidson"]),
        (["sound-quality", "--smoothing", "-1"], ["smoothing=-1"]),
        (["roshambo", "--intervals", "sandwich"], ["intervals=sandwich has no effect", "--each"]),
        (["sound-quality", "--elo"], ["Elo", "order"]),
        (["sound-quality", "--each", "5"], ["--each"]),
        (["sound-quality", "--values", "rates"], ["--values"]),
        (["roshambo", "--by", "language"], ["language"]),
        (["roshambo", "--each", "0.5"], ["each=0.5"]),
        (["rock-paper-scissors"], ["'rock-paper-scissors' is a game without votes"]),
        (["sound-qualty"], ["did you mean 'sound-quality'?"]),
        (["sound-quality", "--report", "r.pdf"], ["--report", "r.pdf"]),
    ],
)
def test_bad_options(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(call("rank", *args, "--quiet"), *words)
    assert list(tmp_path.rglob("*.h5")) == []
