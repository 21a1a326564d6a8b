"""Every container gives the same rows, and one that is broken is refused in one line."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nlhf.errors import InputError
from nlhf.language.comparisons import Comparison
from nlhf.language.reading import digest, read_comparisons, read_prompts
from nlhf.preferences.reading import read_battles

pandas = pytest.importorskip("pandas")
SAID = 'yes, "gladly";\n\nof course\t| é'
ROWS = [{"prompt": f"name {x}, now", "chosen": SAID, "rejected": "no", "n": 1} for x in "abc"]
EXPECTED = [
    Comparison("name a, now", SAID, "no", 1.0),
    Comparison("name b, now", "no", SAID, 0.0),
    Comparison("name c, now", SAID, "no", 1.0),
]
CHATS = [
    {
        "prompt": row["prompt"],
        **{
            key: [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row[key]},
            ]
            for key in ("chosen", "rejected")
        },
        "score_chosen": 8.5,
        "score_rejected": None if i else 1.0,
    }
    for i, row in enumerate(ROWS)
]
LINES = "\n".join(map(json.dumps, ROWS))


def frame() -> Any:
    return pandas.DataFrame(ROWS)


def write(path: Path, text: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


TEXTS: dict[str, tuple[str, str, str]] = {
    "lines.jsonl": (LINES, "utf-8", "JSON lines"),
    "marked.jsonl": (LINES.replace("\n", "\r\n"), "utf-8-sig", "JSON lines"),
    "sixteen.jsonl": (LINES, "utf-16", "JSON lines"),
    "no_ending": (LINES, "utf-8", "JSON lines"),
    "array.json": (json.dumps(ROWS), "utf-8", "a JSON array"),
    "indented.json": (json.dumps(ROWS, indent=1), "utf-8-sig", "a JSON array"),
    "of_data.json": (json.dumps({"data": ROWS}), "utf-8", "a JSON array"),
    "indented_data.json": (json.dumps({"data": ROWS}, indent=2), "utf-8", "a JSON array"),
    "columns.json": (json.dumps({k: [r[k] for r in ROWS] for k in ROWS[0]}), "utf-8",
                     "JSON columns"),
    "pandas.json": (json.dumps({k: {str(i): r[k] for i, r in enumerate(ROWS)} for k in ROWS[0]}),
                    "utf-8", "JSON columns"),
    "comma.csv": (frame().to_csv(), "utf-8", "CSV"),
    "excel.csv": (frame().to_csv(index=False), "utf-8-sig", "CSV"),
    "sixteen.csv": (frame().to_csv(index=False), "utf-16", "CSV"),
    "semicolon.csv": (frame().to_csv(sep=";", index=False), "utf-8", "CSV with ;"),
    "tabs.tsv": (frame().to_csv(sep="\t", index=False), "utf-8", "tab-separated text"),
}  # fmt: skip


@pytest.mark.parametrize("message", [{"role": "user"}, {"from": "human"}, {"content": "a"}])
def test_a_broken_message_is_no_column(message, tmp_path):
    (tmp_path / "one.jsonl").write_text(json.dumps({"prompt": message}), "utf-8")
    with pytest.raises(InputError, match=r"one\.jsonl:1: prompt: a message must be"):
        read_prompts(str(tmp_path / "one.jsonl"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_files_of_text(tmp_path: Path, name: str, packed: bool) -> None:
    text, encoding, form = TEXTS[name]
    path = write(tmp_path / name, text, encoding)
    if packed:
        path = write(tmp_path / f"{name}.gz", gzip.compress(path.read_bytes()))
    read = read_comparisons(path)
    assert read.kept == EXPECTED
    assert read.account.form == form + (", gzipped" if packed else "")
    assert read.account.layouts == {"TRL explicit prompt": 3}


def told(found: list[Comparison]) -> list[tuple[str, str, str, float]]:
    return [(c.prompt[-1]["content"], c.a, c.b, c.share) for c in found]  # type: ignore[index]


@pytest.mark.parametrize("how", ["parquet", "parquet of JSON", "csv of Python", "csv of JSON"])
def test_conversations_in_tables(tmp_path: Path, how: str) -> None:
    table = pandas.DataFrame(CHATS)
    if how.endswith("JSON"):
        for key in ("chosen", "rejected"):
            table[key] = table[key].map(json.dumps)
    path = tmp_path / how.replace(" ", "_")
    if how.startswith("csv"):
        path = path.with_suffix(".csv")
        table.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        table.to_parquet(path)
    read = read_comparisons(path)
    assert told(read.kept) == [(c.prompt, c.a, c.b, c.share) for c in EXPECTED]
    # a score that is missing makes no tie
    assert read.account.layouts == {"UltraFeedback-binarized": 1, "TRL explicit prompt": 2}


def test_a_table_of_one_column_and_one_with_empty_cells(tmp_path: Path) -> None:
    one = write(tmp_path / "p.csv", 'prompt\n"a, b"\nc\n')
    assert read_prompts(one).kept == ["a, b", "c"]
    mixed = write(
        tmp_path / "m.csv",
        "prompt,chosen,rejected,instruction,output_1,output_2,preference\n"
        "q,yes,,,,,\n,yes,no,,,,\n,,,r,a,b,2.0\n",
    )
    read = read_comparisons(mixed)
    assert read.kept == [Comparison("q", "yes", "", 1.0), Comparison("r", "a", "b", 0.0)]
    assert read.left_out == ("line 3: prompt",)
    assert read.account.layouts == {"TRL explicit prompt": 1, "AlpacaEval": 1}


def test_long_cells(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", f"prompt,chosen,rejected\nq,{'long ' * 40_000},no\n")
    assert len(read_comparisons(path).kept[0].a) == 200_000


def test_what_is_in_memory() -> None:
    columns = {key: [row[key] for row in ROWS] for key in ROWS[0]}
    for source in (ROWS, tuple(ROWS), iter(ROWS), frame(), columns):
        read = read_comparisons(source)
        assert read.kept == EXPECTED
        assert read.account.form == "in memory"
    assert read_prompts(["a", {"prompt": "b"}]).kept == ["a", "b"]
    for source, words in (
        ([], "no records in list"),
        (3, "no records in int"),
        ([[1]], "record 1"),
    ):
        with pytest.raises(InputError, match=words):
            read_comparisons(source)


BROKEN: dict[str, tuple[str | bytes, str]] = {
    "empty.jsonl": ("\n", "empty"),
    "empty.csv": ("\n", "empty"),
    "head.csv": ("prompt,chosen,rejected\n", "no rows"),
    "twice.csv": ("prompt,chosen,chosen\nq,a,b\n", "two columns 'chosen'"),
    "short.csv": ("prompt,chosen,rejected\nq,a\n", ":2: 2 values under a header of 3"),
    "no_header.csv": ("q,yes,no\nr,yes,no\n", ":2: prompt: missing; the line has q, yes, no"),
    "none.json": ("[]", "without a record"),
    "numbers.json": ("[1, 2]", "record 1: 1 is no JSON object .*a number"),
    "open.json": ('[{"prompt": "q"},', ":1: no JSON: .*neither JSON nor JSON lines"),
    "text.json": ("hello", ":1: no JSON"),
    "second.jsonl": (f"{LINES}\n{{", ":4: no JSON"),
    "list.jsonl": (f"{LINES}\n[1]", ":4: .*a list"),
    "latin.csv": ("prompt\né\n".encode("latin-1"), "UTF-8"),
    "bytes.jsonl": (bytes(range(256)), "UTF-8"),
    "cut.jsonl.gz": (gzip.compress(LINES.encode())[:-9], "cannot be read"),
    "damaged.jsonl.gz": (gzip.compress(LINES.encode())[:30] + b"x" * 30, "cannot be read"),
    "bad.parquet": (b"PAR1 and no more", "cannot be read as Parquet"),
    "deep.json": ("[" * 500 + "]" * 500, "nested deeper than 200"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken(tmp_path: Path, name: str) -> None:
    text, words = BROKEN[name]
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = write(tmp_path / name, text)
    with pytest.raises(InputError, match=f"{name}.*{words}") as error:
        read_comparisons(path)
    assert "\n" not in str(error.value)


def test_rankings_read_by_the_same_reader(tmp_path: Path) -> None:
    rows = [{"winner": "alder", "loser": "birch"}, {"winner": "birch", "loser": "cedar"}]
    path = write(tmp_path / "b.json", json.dumps({"data": rows}, indent=1), "utf-16")
    read = read_battles(str(path))
    assert (read.items, read.total) == (("alder", "birch", "cedar"), 2)


def test_a_chosen_answer_is_not_always_on_one_side(tmp_path: Path) -> None:
    # rows of two lines end on lines of one parity
    rows = "".join(f'"q\n{i}",yes,no\n' for i in range(4))
    kept = read_comparisons(write(tmp_path / "c.csv", f"prompt,chosen,rejected\n{rows}")).kept
    assert [c.share for c in kept] == [1.0, 0.0, 1.0, 0.0]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data sets in folders; nothing is requested from the hub."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    for name in ("train", "test"):
        write(tmp_path / "set" / f"{name}.jsonl", LINES)
    datasets.disable_progress_bars()
    made = datasets.Dataset.from_list(CHATS)
    made.save_to_disk(tmp_path / "one")
    splits = {"train_prefs": made, "test_prefs": made.select([0])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "splits")
    return tmp_path


def test_data_sets(offline: Path) -> None:
    for spec in (f"hf:{offline}/set", f"hf:{offline}/set:test", f"hf:{offline}/set:default:test"):
        read = read_comparisons(spec)
        assert (read.kept, read.account.form) == (EXPECTED, "a data set")
    assert digest(f"hf:{offline}/set") == digest(f"hf:{offline}/set:test")
    assert digest(f"hf:{offline}/set") != digest(f"hf:{offline}/one")
    expected = [(c.prompt, c.a, c.b, c.share) for c in EXPECTED]
    assert told(read_comparisons(f"hf:{offline}/one").kept) == expected
    assert told(read_comparisons(f"hf:{offline}/splits:test_prefs").kept) == expected[:1]
    datasets = pytest.importorskip("datasets")
    assert told(read_comparisons(datasets.Dataset.from_list(CHATS)).kept) == expected
    for spec, words in (
        (f"hf:{offline}/splits", "split='train' is none of train_prefs, test_prefs"),
        (f"hf:{offline}/set:dev", "split='dev' is none of train, test"),
        ("hf:", "give hf:DATASET"),
        ("hf:a:b:c:d", "give hf:DATASET"),
        ("hf:nobody/nothing", "hf:nobody/nothing: cannot be read"),
    ):
        with pytest.raises(InputError, match=words) as error:
            read_comparisons(spec)
        assert "\n" not in str(error.value)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"datasets is not installed.*\[datasets\]"):
        read_comparisons("hf:any/set")
