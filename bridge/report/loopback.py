"""A server for this machine only, under a secret path."""

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
    """An HTTP server on 127.0.0.1.

    Everything is under a secret path, so that neither other users of the machine nor pages of other
    sites can read what is served.
    """

    daemon_threads = True
    policy = "default-src 'none'"
    """The content security policy of every response."""

    def __init__(self, port: int, handler: type[Handler]) -> None:
        """Start listening; `serve_forever` answers requests.

        Args:
            port: 0 for any free port.
            handler: the class that answers requests.

        Raises:
            InputError: the port is not available.
        """
        self.secret = secrets.token_urlsafe(16)
        try:
            super().__init__((HOST, port), handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"--port {port}: cannot be had: {why}; leave it out") from None

    @property
    def address(self) -> str:
        """The URL of the page."""
        return f"http://{HOST}:{self.server_port}/{self.secret}/"

    @contextmanager
    def doorway(self) -> Iterator[Path]:
        """Give a local page that leads to the URL and that no other user can read.

        A browser is started with an address as its argument, and every user of the machine can list
        the arguments of all processes. So the browser gets the address of this file instead.
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
        """Ignore errors of a browser that has disconnected."""


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD requests under the secret path, and refuses all others."""

    server: Loopback  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    server_version = "run-log-viewer"
    sys_version = ""

    @abstractmethod
    def give(self, name: str) -> None:
        """Respond to a name under the secret path."""

    def do_GET(self) -> None:
        """Respond with head and body."""
        self._answer()

    def do_HEAD(self) -> None:
        """Respond with the head only."""
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def _answer(self) -> None:
        # If another site's name points to this address, its requests carry that name as the host.
        hosts = (f"{HOST}:{self.server.server_port}", f"localhost:{self.server.server_port}")
        root = f"/{self.server.secret}/"
        if self.headers.get("Host") not in hosts:
            self.refuse(HTTPStatus.FORBIDDEN)
        elif self.path.startswith(root):
            self.give(self.path[len(root) :])
        else:
            self.refuse(HTTPStatus.NOT_FOUND)

    def refuse(self, status: HTTPStatus, why: str = "") -> None:
        """Respond with an error and its reason."""
        data = (why or status.phrase).encode()
        self.head(status, TEXT, len(data))
        self.body(data)

    def head(
        self, status: HTTPStatus, kind: str, size: int, more: Mapping[str, str] | None = None
    ) -> None:
        """Send the head of a response."""
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
        """Send the body of a response, unless only the head was requested."""
        if self.command != "HEAD":
            self.wfile.write(data)
