"""A chat completions endpoint on this machine, which behaves as badly as a test wants."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Exchange"], None]


class Exchange:
    """One request and the means to answer it."""

    def __init__(
        self, handler: BaseHTTPRequestHandler, body: Any, number: int, leave: Callable[[], None]
    ) -> None:
        self.handler, self.body, self.number, self.leave = handler, body, number, leave

    @property
    def question(self) -> str:
        return self.body["messages"][-1]["content"]

    @property
    def shown(self) -> tuple[str, str]:
        """The two answers, in the order in which they are shown by the default template."""
        _, _, rest = self.question.partition("[Answer A]\n")
        first, _, rest = rest.partition("\n\n[Answer B]\n")
        return first, rest.partition("\n\nReply with one letter")[0]

    def send(self, status: int, content: bytes | str, **headers: str) -> None:
        content = content.encode() if isinstance(content, str) else content
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.send_header("Content-Length", str(len(content)))
        self.handler.end_headers()
        self.leave()  # once the client has the answer, its next request may be here at any time
        self.handler.wfile.write(content)

    def say(self, text: str, p: float | None = None, tokens: tuple[int, int] = (100, 1)) -> None:
        """Answer with a text, and with the probability p of the label A if it is given."""
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
        if p is not None:
            listed = [
                {"token": token, "logprob": math.log(q) if q > 0 else -1e4}
                for token, q in ((" A", 0.9 * p), ("B", 0.9 * (1 - p)), ("The", 0.1))
            ]
            first = {"token": text, "logprob": -0.1, "top_logprobs": listed}
            choice["logprobs"] = {"content": [first]}
        usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
        self.send(200, json.dumps({"choices": [choice], "usage": usage}))

    def close(self) -> None:
        """Close the connection without an answer."""
        with contextlib.suppress(OSError):
            self.handler.connection.shutdown(socket.SHUT_RDWR)

    def drip(self, seconds: float) -> None:
        """Send a byte of an endless reply now and then."""
        self.handler.send_response(200)
        self.handler.end_headers()
        end = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                self.handler.wfile.write(b" ")
                self.handler.wfile.flush()
                time.sleep(0.02)


class ChatServer:
    """The server; `requests` is what it has been asked, in the order of arrival."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.requests: list[Any] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.at_once = self.most_at_once = 0
        self._lock = lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append(body)
                    outer.keys.append(self.headers.get("Authorization"))
                    outer.paths.append(self.path)
                    number = len(outer.requests)
                    outer.at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer.at_once)
                with contextlib.ExitStack() as under_way, contextlib.suppress(OSError):
                    under_way.callback(outer._leave)
                    behaviour(Exchange(self, body, number, under_way.close))

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Say nothing of clients that go away."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _leave(self) -> None:
        with self._lock:
            self.at_once -= 1

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[ChatServer]:
    """A server for the length of a block."""
    server = ChatServer(behaviour)
    try:
        yield server
    finally:
        server.close()


def longer(exchange: Exchange, bias: float = 0.0) -> None:
    """Prefer the longer answer, as sigmoid(difference / 4), and the first one by a bias."""
    first, second = exchange.shown
    z = (len(first) - len(second)) / 4 + bias
    exchange.say("A" if z > 0 else "B", 1 / (1 + math.exp(-z)))
