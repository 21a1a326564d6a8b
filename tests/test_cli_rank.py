"""`rank` as a user meets it."""

import json
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest

from bridge.runlog import read_run
from tests import command_line

call = partial(command_line.call, "rank")
CASES = Path(__file__).parent / "cases"
ITEM = {
    "name",
    "bradley_terry",
    "low",
    "high",
    "rank_low",
    "rank_high",
    "lottery",
    "lottery_low",
    "lottery_high",
    "in_support",
}
CONTEXT = {
    "context",
    "battles",
    "items",
    "verdict",
    "winner",
    "cycles",
    "exploitability",
    "certificate",
}


def test_json_has_the_promised_keys_and_the_log_the_numbers(tmp_path):
    out = tmp_path / "r.h5"
    result = call("sound-quality", "--bootstrap", 200, "--json", "--quiet", "--out", out)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert {"contexts", "card"} <= said.keys()
    names = [c["context"] for c in said["contexts"]]
    assert names == ["Beethoven", "Rachmaninov", "SteelyDan", "Sting", "pooled"]
    for c in said["contexts"]:
        assert c.keys() >= CONTEXT
        assert c["verdict"] in ("winner", "cycle", "undecided")
        assert (c["winner"] is not None) == (c["verdict"] == "winner")
        assert 0 <= c["exploitability"] < 1e-11
        assert 0 <= c["certificate"] < 1e-18
        assert sum(item["bradley_terry"] for item in c["items"]) == pytest.approx(0, abs=1e-9)
        assert sum(item["lottery"] for item in c["items"]) == pytest.approx(1)
        for item in c["items"]:
            assert item.keys() >= ITEM
            assert item["low"] < item["bradley_terry"] < item["high"]
            assert 1 <= item["rank_low"] <= item["rank_high"] <= 8
            assert 0 <= item["lottery_low"] <= item["lottery_high"] <= 1
            assert 0 <= item["in_support"] <= 1
        for cycle in c["cycles"]:
            assert len(cycle["items"]) == 3
            assert 0 < cycle["probability"] <= 1
    assert said["contexts"][2]["winner"] == "Original"
    assert said["card"]["battles"] == 21924
    run = read_run(out)
    rows = run.table("metrics")
    assert len(rows["step"]) == 40
    first = said["contexts"][0]["items"][0]
    assert rows["bradley_terry"][0] == first["bradley_terry"]
    assert json.loads(run.meta["dataset"])["items"][0][0] == first["name"]
    pairs = run.table("pairs")
    assert len(pairs["step"]) == 5 * 28
    assert pairs["battles"][:28].sum() == said["contexts"][0]["battles"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("battles.csv", ["all: undecided", "alder", "score", "lottery", "further battles"]),
        ("zero_votes.csv", ["Never compared", "A", "unknown"]),
        ("unconnected.csv", ["No battle joins A, B; C, D"]),
        ("ballots.soc", ["Alder"]),
        ("percent.csv", ["numbers of battles are unknown"]),
    ],
)
def test_tables_say_what_is_decided(name, words, tmp_path):
    result = call(CASES / name, "--bootstrap", 100, "--out", tmp_path / "r.h5")
    assert result.exit_code == 0, result.output
    told = " ".join(result.stdout.split())
    for word in words:
        assert word in told
    assert result.stderr.startswith("data: ")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_the_table_keeps_to_any_width(width, monkeypatch):
    import nlhf
    from bioplaus_cli import rank as command

    context = nlhf.rank(str(CASES / "battles.csv"), bootstrap=50).contexts[0]
    columns, rows = command._columns(context, width)
    assert columns[:3] == ["rank", "item", "score [95 %]"]
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    assert sum(widths) + 2 * len(widths) <= max(width, 40)
    assert (len(columns) == 7) == (width >= 200)


def test_by_a_column_with_elo_and_intervals_of_the_sandwich(tmp_path):
    args = ["--by", "language", "--elo", "--intervals", "sandwich", "--bootstrap", 50, "--json"]
    result = call(CASES / "battles.csv", *args, "--out", tmp_path / "r.h5")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert [c["context"] for c in said["contexts"]] == ["en", "de", "pooled"]
    english = {item["name"]: item for item in said["contexts"][0]["items"]}
    assert english.keys() == {"alder", "birch"}
    assert english["alder"]["bradley_terry"] == pytest.approx(np.log(3) / 2)
    assert said["contexts"][2]["items"][0]["elo"] > 990
    assert set(said["robust"]["lottery"]) == {"alder", "birch", "cedar"}


@pytest.mark.parametrize("ties", ["davidson", "rao-kupper"])
def test_models_of_ties(ties, tmp_path):
    args = ["--ties", ties, "--bootstrap", 50, "--json", "--out", tmp_path / "r.h5"]
    said = json.loads(call(CASES / "battles.csv", *args).stdout)
    assert said["contexts"][0]["tie"] is not None


def test_help_has_an_example():
    assert "bioplaus rank battles.csv" in call("--help").stdout


@pytest.mark.parametrize("name", ["battles.csv", "winner_loser.csv", "zero_votes.csv"])
def test_the_report_is_one_page_of_well_formed_drawings(name, tmp_path):
    page = tmp_path / "r.html"
    args = ["--bootstrap", 100, "--report", page, "--quiet", "--out", tmp_path / "r.h5"]
    assert call(CASES / name, *args).exit_code == 0
    text = page.read_text("utf-8")
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    titles = ["Bradley-Terry scores", "Maximal lottery", "Win rates", "tau"]
    assert all(title in text for title in titles)
    assert len(drawings) >= 4
    for drawing in drawings:
        minidom.parseString(drawing)
        assert "nan" not in re.sub(r">[^<]*<", "><", drawing)
    assert "Undecided: " in text
    assert "<script src" not in text
    assert "http://" not in text
    assert "https://" not in text


def test_the_report_draws_cycles_and_what_a_name_holds(tmp_path):
    votes = tmp_path / "v.csv"
    rows = [("<b>rock", "scissors&"), ("scissors&", "paper"), ("paper", "<b>rock")]
    lines = ["item_a,item_b,wins_a,wins_b", *(f"{a},{b},70,30" for a, b in rows)]
    votes.write_text("\n".join(lines) + "\n")
    page = tmp_path / "r.html"
    args = ["--bootstrap", 100, "--report", page, "--json", "--out", tmp_path / "r.h5"]
    result = call(votes, *args)
    said = json.loads(result.stdout)
    assert said["contexts"][0]["verdict"] == "cycle"
    assert said["contexts"][0]["cycles"][0]["probability"] > 0.9
    text = page.read_text("utf-8")
    assert "&lt;b&gt;rock" in text
    assert "<b>rock" not in text
    assert 'marker-end="url(#arrow-0)"' in text


def test_a_page_of_several_contexts_has_each_id_once(tmp_path):
    votes = tmp_path / "v.csv"
    rows = [("a", "b"), ("b", "c"), ("c", "a")]
    lines = [f"{a},{b},70,30,{where}" for where in ("here", "there") for a, b in rows]
    votes.write_text("\n".join(["item_a,item_b,wins_a,wins_b,context", *lines]) + "\n")
    page = tmp_path / "r.html"
    args = ["--bootstrap", 50, "--report", page, "--quiet", "--out", tmp_path / "r.h5"]
    assert call(votes, *args).exit_code == 0
    ids = re.findall(r' id="([^"]+)"', page.read_text("utf-8"))
    assert {"arrow-0", "arrow-1", "arrow-2"} <= set(ids)
    assert len(ids) == len(set(ids))


def many_battles(path, items, battles):
    """Battles of random pairs of many items."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, items, battles)
    b = (a + rng.integers(1, items, battles)) % items
    sides = np.where(rng.random(battles) < 0.5, "model_a", "model_b")
    rows = [f"m{i},m{j},{side}" for i, j, side in zip(a, b, sides, strict=True)]
    path.write_text("\n".join(["model_a,model_b,winner", *rows]) + "\n")
    return path


def test_a_long_ranking_says_so_and_shows_how_far_it_is(tmp_path, monkeypatch):
    from bioplaus_cli import rank as command

    monkeypatch.setattr(command, "_LONG", 0.0)
    monkeypatch.setattr(command, "_SHORT", 0.0)
    args = ["--bootstrap", 100, "--out", tmp_path / "r.h5"]
    told = call(CASES / "battles.csv", *args).stderr.splitlines()
    assert told[0].startswith("rank: 100 resamples of one table of up to 3 items take about")
    assert "--bootstrap" in told[0]
    assert told[1].startswith("resampling: 300/300 (100 %)")
    quiet = call(CASES / "battles.csv", *args, "--overwrite", "--quiet")
    assert quiet.stderr == ""


@pytest.mark.slow
def test_ctrl_c_ends_a_long_ranking_and_leaves_nothing(tmp_path):
    votes = many_battles(tmp_path / "v.csv", 300, 6000)
    program = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program += "; sys.argv[0] = 'cli.py'; import cli; cli.main()"
    command = [sys.executable, "-c", program, "rank", str(votes), "--out", str(tmp_path / "r.h5")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert first.startswith("rank: 1,000 resamples")
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert [path.name for path in tmp_path.iterdir()] == ["v.csv"]


def test_the_log_holds_no_lists_of_names_of_pairs(tmp_path):
    votes = many_battles(tmp_path / "v.csv", 12, 20)
    args = ["--bootstrap", 30, "--json", "--quiet", "--out", tmp_path / "r.h5"]
    said = json.loads(call(votes, *args).stdout)
    assert said["contexts"][0]["never_compared"]
    assert said["contexts"][0]["unordered"]
    assert said["contexts"][0]["resamples"] == said["contexts"][0]["lottery_resamples"] == 30
    run = read_run(tmp_path / "r.h5")
    kept = next(event["of"] for event in run.events if "of" in event)
    assert kept["contexts"][0]["verdict"] == said["contexts"][0]["verdict"]
    assert not {"unordered", "never_compared"} & kept["contexts"][0].keys()
    assert len(run.table("pairs")["step"]) == 12 * 11 // 2


@pytest.mark.parametrize(
    ("bootstrap", "label"), [(50, "verdict's probability"), (0, "largest lottery weight")]
)
def test_runs_list_shows_the_verdict_or_without_resampling_the_lottery(tmp_path, bootstrap, label):
    battles, out = tmp_path / "b.csv", tmp_path / "r.h5"
    battles.write_text("model_a,model_b,winner\n" + "x,y,model_a\n" * 20)
    said = json.loads(call(battles, "--bootstrap", bootstrap, "--json", "--out", out).stdout)
    (context,) = said["contexts"]
    expected = context["probability"] if bootstrap else max(i["lottery"] for i in context["items"])
    (row,) = json.loads(command_line.call("runs", "list", out, "--json").stdout)
    assert (row["result"], row["label"], row["better"]) == (expected, label, "higher")
    assert expected > 0.9
