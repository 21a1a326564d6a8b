"""The viewer's server: it serves the page and one log, on this machine only, and nothing else."""

from __future__ import annotations

import http.client
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner

from bridge.report import viewer
from bridge.report.viewer import Viewer
from cli import main
from tests.bridge.records import new_log, row, sealed_log
from tests.bridge.serving import serving

WEB = Path(viewer.__file__).parent / "web"


def test_a_browser_is_told_of_a_page_that_nobody_else_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[Path] = []
    pages: list[str] = []

    def launch(url: str) -> None:
        launched.append(Path(url))
        pages.append(Path(url).read_text())
        assert Path(url).stat().st_mode & 0o077 == 0
        assert Path(url).parent.stat().st_mode & 0o077 == 0

    monkeypatch.setattr("click.launch", launch)
    monkeypatch.setattr(Viewer, "serve_forever", lambda self: None)
    log = sealed_log(tmp_path / "run.h5")
    done = CliRunner().invoke(main, ["runs", "view", str(log), "--browser", "--json"])
    address = json.loads(done.stdout)["address"]
    assert f"url={address}" in pages[0]
    secret = address.rstrip("/").rpartition("/")[2]
    assert secret not in str(launched[0])
    assert not launched[0].exists()


def get(
    server: Viewer, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


def test_the_page_and_the_log_are_there(tmp_path: Path) -> None:
    log = sealed_log(tmp_path / "a&b.h5")
    with serving(Viewer(log)) as server:
        root = f"/{server.secret}/"
        assert server.address == f"http://127.0.0.1:{server.server_port}{root}"
        assert server.server_address[0] == "127.0.0.1"
        status, headers, body = get(server, root)
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        scripts = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', body.decode())
        types = {name: get(server, root + name)[1]["content-type"] for name in scripts}
        assert types == {
            "assets/index.js": "text/javascript; charset=utf-8",
            "assets/index.css": "text/css; charset=utf-8",
        }
        status, headers, body = get(server, root + "log.h5")
        assert (status, headers["x-log-name"]) == (200, "a%26b.h5")
        assert body == log.read_bytes()
        assert get(server, root, "HEAD")[2] == b""


@pytest.mark.parametrize(
    "path",
    [
        "/", "/log.h5", "/{0}", "/{0}/../log.h5", "/{0}/other.h5", "/{0}/./log.h5",
        "/{0}/assets/", "/{0}/assets/../index.html", "/{0}/assets/..%2f..%2f__init__.py",
        "/{0}/%2e%2e/%2e%2e/etc/passwd", "/../../../etc/passwd", "/{0}//etc/passwd",
        "http://127.0.0.1/etc/passwd", "/{0}/log.h5?x", "/{0}/LOG.H5", "/{0}/log.h5/",
    ],
)  # fmt: skip
def test_anything_else_is_refused(tmp_path: Path, path: str) -> None:
    log = sealed_log(tmp_path / "log.h5")
    (tmp_path / "other.h5").write_bytes(b"secret")
    with serving(Viewer(log)) as server:
        status, _, body = get(server, path.format(server.secret))
        assert (status, body) in ((404, b"Not Found"), (403, b"Forbidden"))


def test_other_names_and_methods_are_refused(tmp_path: Path) -> None:
    with serving(Viewer(sealed_log(tmp_path / "log.h5"))) as server:
        root = f"/{server.secret}/"
        for host in ("evil.example", "evil.example:80", f"127.0.0.1.evil:{server.server_port}"):
            assert get(server, root, headers={"Host": host})[0] == 403
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert get(server, root, method)[0] == 501
        assert get(server, root, headers={"Host": f"localhost:{server.server_port}"})[0] == 200
        policy = get(server, root)[1]["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "http" not in policy


def test_a_log_that_grows_is_given_as_an_ordinary_file(tmp_path: Path) -> None:
    with new_log(tmp_path / "run.h5") as log, serving(Viewer(log.path)) as server:
        for step in range(3):
            log.log("metrics", row(step))
            body = get(server, f"/{server.secret}/log.h5")[2]
            with h5py.File(io.BytesIO(body), "r") as file:
                losses: Any = file["metrics/loss"]
                assert losses[:].tolist() == [row(s).loss for s in range(step + 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.h5"]


def test_a_log_that_broke_meanwhile_is_told(tmp_path: Path) -> None:
    log = sealed_log(tmp_path / "log.h5")
    with serving(Viewer(log)) as server:
        log.write_bytes(b"nothing")
        status, _, body = get(server, f"/{server.secret}/log.h5")
        assert status == 500
        assert b"no HDF5 file" in body


@contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


def test_the_command_prints_the_address_and_ends_cleanly(tmp_path: Path) -> None:
    log = sealed_log(tmp_path / "log.h5")
    words = [sys.executable, "cli.py", "runs", "view", str(log), "--json"]
    root = Path(__file__).parents[2]

    def interruptible() -> None:  # a shell's background jobs are started without
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with (
        subprocess.Popen(
            words,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=interruptible,
        ) as process,
        stopped(process),
    ):
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/", address)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "stopped\n")


def test_what_is_no_log_is_refused_before_serving(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"no log")
    for arguments in (("x.h5",), ("none.h5",), ("x.h5", "--port", "70000")):
        words = ["runs", "view", str(tmp_path / arguments[0]), *arguments[1:]]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1


def test_the_sources_are_pinned_and_name_no_host() -> None:
    package = json.loads((WEB / "package.json").read_text("utf-8"))
    lock = json.loads((WEB / "package-lock.json").read_text("utf-8"))
    asked = {**package["dependencies"], **package["devDependencies"]}
    assert asked["@h5web/app"] == asked["@h5web/h5wasm"] == "16.0.1"
    assert asked["react"].startswith("18.")
    for name, version in asked.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert all("resolved" not in each for each in lock["packages"].values())
    listed = (WEB.parent / "static" / "assets" / "licenses.txt").read_text("utf-8")
    assert "@h5web/app - 16.0.1 (MIT)" in listed
