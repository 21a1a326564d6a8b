"""A server that answers this machine only, under a path that cannot be guessed."""

from __future__ import annotations

import secrets
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bridge.errors import InputError

HOST = "127.0.0.1"
HTML, TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"


class Loopback(ThreadingHTTPServer):
    """Listens on 127.0.0.1.

    Everything lies under a secret path, so that other users of the machine and pages of other sites
    cannot read what is served.
    """

    daemon_threads = True
    policy = "default-src 'none'"
    """The content security policy of every answer."""

    def __init__(self, port: int, handler: type[Handler]) -> None:
        """Start to listen; `serve_forever` answers.

        Args:
            port: 0 for a free one.
            handler: answers.

        Raises:
            InputError: a port that cannot be had.
        """
        self.secret = secrets.token_urlsafe(16)
        try:
            super().__init__((HOST, port), handler)
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


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for what lies under the secret path, and refuses all else."""

    server: Loopback  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    server_version = "run-log-viewer"
    sys_version = ""

    @abstractmethod
    def give(self, name: str) -> None:
        """Answer for a name under the secret path."""

    def do_GET(self) -> None:
        """Answer with head and body."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer with the head alone."""
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        # A page of another site whose name was pointed at this address has its own name here.
        hosts = (f"{HOST}:{self.server.server_port}", f"localhost:{self.server.server_port}")
        root = f"/{self.server.secret}/"
        if self.headers.get("Host") not in hosts:
            self.refuse(HTTPStatus.FORBIDDEN)
        elif self.path.startswith(root):
            self.give(self.path[len(root) :])
        else:
            self.refuse(HTTPStatus.NOT_FOUND)

    def refuse(self, status: HTTPStatus, why: str = "") -> None:
        """Answer with an error and what is wrong."""
        data = (why or status.phrase).encode()
        self.head(status, TEXT, len(data))
        self.body(data)

    def head(
        self, status: HTTPStatus, kind: str, size: int, more: Mapping[str, str] | None = None
    ) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        fixed = {
            "Content-Type": kind,
            "Content-Length": str(size),
            "Cache-Control": "no-store",
            "Content-Security-Policy": self.server.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in (fixed | dict(more or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def body(self, data: bytes) -> None:
        """Send the body of an answer, unless the head alone was asked for."""
        if self.command != "HEAD":
            self.wfile.write(data)
