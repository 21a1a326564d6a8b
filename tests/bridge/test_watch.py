"""`runs watch`: the page of all active runs, on this machine only."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.report.watch import Watch
from bridge.runlog import open_run
from cli import main
from tests.bridge.browser import browser, complaints, resize
from tests.bridge.headlines import HEADLINE, Batch, Pass, judged_log
from tests.bridge.serving import serving

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {
    "tables": {"metrics": Batch, "epochs": Pass},
    "seed": 0,
    "headline": HEADLINE,
    "command": "cli.py eqprop-run",
}


def get(server: Watch, name: str = "", host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    headers = {} if host is None else {"Host": host}
    connection.request("GET", f"/{server.secret}/{name}", headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_running_runs_come_stay_when_they_end_and_keep_their_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.report.watch._LOAD", 1e9)
    judged_log(tmp_path / "old.h5", [1.0])
    watch = Watch(tmp_path, interval=1e-6)
    with watch:
        assert "No run is being written." in watch.page()
        assert "old.h5" in watch.page()
        one = open_run(tmp_path / "sweep" / "1.h5", config={"rate": 1}, **SETTINGS)
        two = open_run(tmp_path / "sweep" / "2.h5", config={"rate": 2}, **SETTINGS)
        with one, two:
            two.log("epochs", Pass(10, 1, 0.1, 7.25))
            page = watch.page()
            # The other one has nothing to draw yet.
            assert "2 running." in page
            assert "old.h5" not in page
            assert "7.25 %" in page
            one.log("epochs", Pass(10, 1, 0.1, 8.5))
            page = watch.page()
            assert re.search(r"A: rate 1.*B: rate 2", page)
            assert page.index("lower is better") < page.index("<figure")
        page = watch.page()
        assert "No run is being written." in page
        assert page.count("finished") == 2
        assert re.search(r"A: rate 1.*B: rate 2", page)


def test_runs_of_several_commands_are_apart(tmp_path: Path) -> None:
    others = {**SETTINGS, "command": "cli.py nash-md"}
    first = open_run(tmp_path / "1.h5", config={}, **SETTINGS)
    second = open_run(tmp_path / "2.h5", config={}, **others)
    with first, second, Watch(tmp_path) as watch:
        for log in (first, second):
            log.log("epochs", Pass(10, 1, 0.1, 7.25))
        page = watch.page()
    for title in ("1 run of eqprop-run", "1 run of nash-md"):
        assert title in page


def test_the_page_is_not_drawn_more_often_than_asked(tmp_path: Path) -> None:
    with Watch(tmp_path, interval=1000.0) as watch:
        before = watch.page()
        judged_log(tmp_path / "new.h5", [1.0])
        assert watch.page() == before
        assert 'data-refresh="1e+03"' in before


def test_the_server_gives_nothing_else_and_to_nobody_else(tmp_path: Path) -> None:
    judged_log(tmp_path / "a.h5", [1.0])
    with serving(Watch(tmp_path, interval=1e-6)) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert get(server)[0] == 200
        assert get(server, "a.h5")[0] == get(server, "../a.h5")[0] == 404
        assert get(server, host="evil.example")[0] == 403


def test_a_folder_that_goes_away_is_told_on_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    with Watch(folder, interval=1e-6) as watch:
        folder.rmdir()
        assert f"{folder}: no such file or folder" in watch.page()


def test_a_taken_port_and_a_missing_folder_are_one_line(tmp_path: Path) -> None:
    with Watch(tmp_path) as watch:
        port = str(watch.server_port)
        taken = CliRunner().invoke(main, ["runs", "watch", str(tmp_path), "--port", port])
    missing = CliRunner().invoke(main, ["runs", "watch", str(tmp_path / "none")])
    assert (taken.exit_code, missing.exit_code) == (2, 2)
    assert taken.stderr.startswith(f"error: --port {port}: cannot be had: ")
    assert missing.stderr.startswith(f"error: {tmp_path / 'none'}: no such folder")
    assert (taken.stderr + missing.stderr).count("\n") == 2


def test_the_command_prints_the_address_and_ends_cleanly(tmp_path: Path) -> None:
    def interruptible() -> None:  # a shell's background jobs are started without
        signal.signal(signal.SIGINT, signal.default_int_handler)

    words = [sys.executable, "cli.py", "runs", "watch", str(tmp_path), "--json"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=ROOT, preexec_fn=interruptible, **pipes) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["folder"] == str(tmp_path)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/", said["address"])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "stopped\n")


def wait(condition: Callable[[], Any]) -> Any:
    """Wait until something holds; a minute at most."""
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end, "the page never got there"
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_the_page_refreshes_itself_and_lines_that_are_off_stay_off(tmp_path: Path) -> None:
    log = open_run(tmp_path / "1.h5", config={}, **SETTINGS)
    with (
        log,
        browser(tmp_path / "browser") as driver,
        serving(Watch(tmp_path, interval=0.2)) as server,
    ):
        log.log("epochs", Pass(10, 1, 0.1, 7.25))
        resize(driver, 1280, 800)
        driver.get(server.address)
        # One script each, because elements are replaced all the time.
        entry = "document.querySelector(\".legend button[data-line='0']\")"
        driver.execute_script(f"{entry}.click()")
        log.log("epochs", Pass(20, 2, 0.1, 6.125))
        wait(lambda: "6.125 %" in driver.execute_script("return document.body.innerText"))
        assert driver.execute_script(f"return {entry}.ariaPressed") == "false"
        assert complaints(driver) == []
        offline = {
            "offline": True,
            "latency": 0,
            "downloadThroughput": 0,
            "uploadThroughput": 0,
        }
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        wait(lambda: "Nobody serves" in driver.execute_script("return document.body.innerText"))
