"""h5web's viewer for one log: a static page and the log, on this machine's own address only.

The page's sources are in `web/`, built into `static/` (see docs/seeing-runs.md).
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bridge.errors import InputError, StorageError
from bridge.runlog import snapshot
from bridge.runlog.stream import open_log

HOST = "127.0.0.1"
LOG = "log.h5"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".wasm": "application/wasm",
    ".txt": "text/plain; charset=utf-8",
}
# The page may load nothing but itself and the log. Its worker, which reads HDF5 by WebAssembly,
# lies inside its script; its arrays (ndarray) compile their loops, hence 'unsafe-eval'.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval' blob:; worker-src blob: data:; "
    "connect-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Viewer(ThreadingHTTPServer):
    """Serves the viewer's page and one log, and nothing else.

    Everything lies under a path that cannot be guessed, so that other users of the machine and
    pages of other sites cannot read the log.
    """

    daemon_threads = True

    def __init__(self, log: Path, port: int = 0) -> None:
        """Start to listen; `serve_forever` answers.

        Args:
            log: the log, sealed or not; while it grows each loading of the page shows it anew.
            port: 0 for a free one.

        Raises:
            InputError: no log, a damaged one, or a port that cannot be had.
        """
        with open_log(log):
            pass
        self.log = log
        self.files = _files()
        self.secret = secrets.token_urlsafe(16)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"--port {port}: cannot be had: {why}; leave it out") from None

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_port}/{self.secret}/"

    @contextmanager
    def doorway(self) -> Iterator[Path]:
        """Give a page that leads to the address, which nobody else can read.

        A browser is started with its address as an argument, and every user of the machine can list
        the arguments of all processes; so it is told of this file instead.
        """
        with tempfile.TemporaryDirectory(prefix="run-log-") as folder:
            page = Path(folder) / "open.html"
            page.touch(mode=0o600)
            page.write_text(
                '<!doctype html><meta charset="utf-8"><title>run log</title>'
                f'<meta http-equiv="refresh" content="0; url={self.address}">'
                f'<a href="{self.address}">{self.address}</a>\n'
            )
            yield page

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent about a browser that hung up."""


class _Handler(BaseHTTPRequestHandler):
    server: Viewer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    server_version = "run-log-viewer"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        # A page of another site whose name was pointed at this address has its own name here.
        hosts = (f"{HOST}:{self.server.server_port}", f"localhost:{self.server.server_port}")
        root = f"/{self.server.secret}/"
        if self.headers.get("Host") not in hosts:
            self._refuse(HTTPStatus.FORBIDDEN)
        elif self.path == root + LOG:
            self._log()
        elif self.path.startswith(root) and self.path[len(root) :] in self.server.files:
            kind, data = self.server.files[self.path[len(root) :]]
            self._head(HTTPStatus.OK, kind, len(data))
            self._body(data)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _log(self) -> None:
        try:
            with snapshot(self.server.log) as file:
                size = file.seek(0, 2)
                file.seek(0)
                name = {"X-Log-Name": quote(self.server.log.name)}
                self._head(HTTPStatus.OK, "application/x-hdf5", size, name)
                if self.command != "HEAD":
                    shutil.copyfileobj(file, self.wfile)
        except (InputError, StorageError) as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    def _refuse(self, status: HTTPStatus, why: str = "") -> None:
        data = (why or status.phrase).encode()
        self._head(status, _TYPES[".txt"], len(data))
        self._body(data)

    def _head(
        self, status: HTTPStatus, kind: str, size: int, more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        fixed = {
            "Content-Type": kind,
            "Content-Length": str(size),
            "Cache-Control": "no-store",
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in (fixed | dict(more or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, data: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(data)


def _files() -> dict[str, tuple[str, bytes]]:
    """Read the built page: type and content by path; its index is the empty path."""
    static = resources.files("bridge.report.viewer") / "static"
    found = {"": static / "index.html"}
    found |= {f"assets/{each.name}": each for each in (static / "assets").iterdir()}
    return {
        name: (_TYPES[Path(each.name).suffix], each.read_bytes()) for name, each in found.items()
    }
