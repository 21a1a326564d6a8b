"""Foreign files in a folder of logs: each gets one line, whatever its content; none ends a list."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest

from bridge.errors import InputError
from bridge.report.figures import sections
from bridge.report.html import page
from bridge.report.terminal import line, screen, watch
from bridge.runlog import (
    compare_runs,
    comparison_tables,
    describe_log,
    export_run,
    list_runs,
    read_run,
)
from bridge.runlog.layout import create_meta
from tests.bridge.records import sealed_log
from tests.bridge.strangers import TEXTS, base_log, damage
from tests.in_numbers import in_numbers


def look(path: Path, folder: Path, random_: random.Random) -> str:
    """Read a log in every way that the commands do; give the refusal, "" if there is none."""
    (listed,) = list_runs([path])
    assert "\n" not in listed.get("note", "") or listed["state"] != "unreadable"
    json.dumps(listed)
    refusals = []
    for work in (_describe, _compare, _export, _watch) if random_.random() < 0.3 else (_describe,):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            work(path, folder)
        except InputError as error:
            refusals.append(str(error))
    assert not any("\n" in each for each in refusals)
    return "; ".join(refusals)


def _describe(path: Path, folder: Path) -> None:
    json.dumps(describe_log(path), default=str)


def _compare(path: Path, folder: Path) -> None:
    found = compare_runs([path])
    comparison_tables(found)
    sections(found)
    assert "<script>alert" not in page(found, [])
    page(found, []).encode()


def _export(path: Path, folder: Path) -> None:
    export_run(path, "csv", folder)


def _watch(path: Path, folder: Path) -> None:
    (view,) = watch(path)
    line(view)
    screen(view, 80, 24)


@pytest.mark.parametrize(("n", "seed"), in_numbers((80, 150), (1000, 1000), (5000, 5000)))
def test_a_log_with_right_checksums_and_odd_content_is_one_line(
    tmp_path: Path, n: int, seed: int
) -> None:
    source, target = base_log(tmp_path / "base.h5"), tmp_path / "odd.h5"
    random_, refused = random.Random(seed), 0
    for _ in range(n):
        said = damage(source, target, random_)
        try:
            refused += bool(look(target, tmp_path / "out", random_))
        except Exception as error:
            raise AssertionError(f"{said}: {error!r}") from error
    assert n / 3 < refused < n


def _with_fact(path: Path, **facts: Any) -> Path:
    """Change facts of a log and recompute their checksum."""
    with h5py.File(path, "r+") as file:
        found = {name: each[()] for name, each in file["meta"].items() if name != "crc"}  # type: ignore[union-attr]
        plain = {n: v.decode() if isinstance(v, bytes) else v.item() for n, v in found.items()}
        del file["meta"], file["summary"], file.attrs["summary"]
        create_meta(file, plain | facts)
    return path


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"start_time": "yesterday"}, "/meta/start_time: Invalid isoformat string"),
        ({"config": "[1]"}, "/meta/config: is no object"),
        ({"config": '{"a":' * 10000 + "1" + "}" * 10000}, "nested deeper than 64 levels"),
        ({"config": '{"a": %s}' % ("9" * 5000)}, "/meta/config: Exceeds the limit"),
        ({"config": '{"a": NaN}'}, "/meta/config: has NaN"),
        ({"run_id": "../../x"}, "/meta/run_id"),
        ({"seed": "seven"}, "/meta/seed: Input should be a valid integer"),
    ],
)
def test_a_fact_that_cannot_be_is_named(tmp_path: Path, facts: dict[str, Any], said: str) -> None:
    path = _with_fact(sealed_log(tmp_path / "odd.h5"), **facts)
    for read in (read_run, describe_log):
        with pytest.raises(InputError, match=said):
            read(path)
    (listed,) = list_runs([path])
    assert listed["state"] == "unreadable"
    assert said in listed["note"]


def test_a_command_line_with_an_open_quote_is_shown(tmp_path: Path) -> None:
    path = _with_fact(sealed_log(tmp_path / "odd.h5"), command_line="cli.py nash-md --out 'a")
    assert list_runs([path])[0]["command"] == "nash-md"


def listed(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """List a folder in a process of its own, which must end."""
    command = [sys.executable, "cli.py", "runs", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_one_bad_file_is_one_row_of_a_list(tmp_path: Path) -> None:
    sealed_log(tmp_path / "good.h5")
    (tmp_path / "dangling.h5").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "empty.h5").write_bytes(b"")
    _with_fact(sealed_log(tmp_path / "odd.h5"), config="[]")
    (tmp_path / "name\x1b[31m.h5").write_bytes(b"x")
    done = listed(tmp_path, "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    states = {Path(each["log"]).name: each["state"] for each in json.loads(done.stdout)}
    assert states.pop("good.h5") == "finished"
    assert set(states.values()) == {"unreadable"}
    assert len(states) == 6
    assert "\x1b" not in listed(tmp_path, "list").stdout


def test_control_characters_reach_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    evil = TEXTS[5]
    from tests.bridge.records import new_log, row

    with new_log(path, config={evil: evil}, command=["cli.py", evil]) as log:
        log.log("metrics", row(1))
        log.event("note", text=evil, **{evil: 1})
    for options in (["list"], ["show"]):
        done = listed(path, *options)
        assert done.returncode == 0
        assert not set(done.stdout) & {"\x1b", "\x07", "\r"}
    assert "\\x1b[31mred" in done.stdout
