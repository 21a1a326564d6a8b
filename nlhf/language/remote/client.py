"""POST to a chat completions endpoint, with timeouts and a limited number of retries."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import os
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlsplit

from nlhf.errors import InputError, OutsideFailed
from nlhf.language.remote.verdicts import Unreadable, excerpt

T = TypeVar("T")
MOST_BYTES = 2**24
"""Size limit of a reply in bytes."""
MOST_WAIT = 60.0
"""Longest wait between two tries in seconds, whatever the server asks for."""
PATH = "/chat/completions"
_PASSING = (408, 409, 425, 429)
_SECRET = re.compile(r"key|token|secret|password|passwd|auth|sig$|signature", re.IGNORECASE)


class Passing(Exception):
    """A transient failure; `wait` is the delay in seconds that the server asks for."""

    def __init__(self, text: str, wait: float | None = None) -> None:
        """Store the message and the delay."""
        super().__init__(text)
        self.wait = wait


@dataclass
class Usage:
    """Counts of requests to an endpoint and of the tokens that they used."""

    calls: int = 0
    retries: int = 0
    failures: int = 0
    rate_limited: int = 0
    timeouts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


class Budget:
    """Number of requests that may still be sent, shared by all endpoints of a run."""

    def __init__(self, limit: int | None = None) -> None:
        """Set the limit; None for any number."""
        self.limit, self._used, self._lock = limit, 0, threading.Lock()

    def take(self) -> bool:
        """Take one request from the budget; False if none is left."""
        with self._lock:
            left = self.limit is None or self._used < self.limit
            self._used += left
            return left


@dataclass(frozen=True)
class Address:
    """The address of an endpoint.

    Attributes:
        url: the URL as given, for messages.
        scheme: http or https.
        host, port: host and port; a port of None is the scheme's default.
        target: path and query.
    """

    url: str
    scheme: str
    host: str
    port: int | None
    target: str


def read_address(url: str) -> Address:
    """Parse a URL; PATH is appended if the URL does not end with it.

    Raises:
        InputError: not an http or https URL, or it contains a secret, which logs would keep.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"judge URL {url[:100]!r}: {error}") from None
    if "@" in parts.netloc:
        raise InputError(
            "judge URL: has a user name or a password before its host, which the log would keep; "
            "put the key into the environment variable that sources.judge.key_env names"
        )
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise InputError(
            f"judge URL {url[:100]!r}: is no URL of http or https; write it as in "
            "judge:http://localhost:8000/v1#MODEL"
        )
    for name in (each.partition("=")[0] for each in parts.query.split("&")):
        if _SECRET.search(name):
            raise InputError(
                f"judge URL: {name[:40]!r} in its query looks like a secret, which the log would "
                "keep; put the key into the environment variable that sources.judge.key_env names"
            )
    path = parts.path.rstrip("/")
    path = quote(path if path.endswith(PATH) else path + PATH, safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Address(url, parts.scheme, host, port, f"{path}?{query}" if query else path)


def read_key(variable: str) -> str | None:
    """Read a key from the environment; None if it is not set.

    Raises:
        InputError: the key cannot be sent; the message does not show it.
    """
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key:
        return None
    if not all(33 <= ord(c) <= 126 for c in key):
        raise InputError(
            f"the key in the environment variable {variable} has blanks or characters that no "
            "header can hold; set it anew"
        )
    return key


@dataclass
class Client:
    """Sends questions to one endpoint, from several threads concurrently.

    Attributes:
        address: the endpoint's address.
        key: sent as a bearer token; never shown in a message.
        key_env: the environment variable of the key, for messages.
        timeout: time limit of one try in seconds, > 0.
        retries: number of tries after the first, >= 0.
        backoff: seconds before the first retry, doubled each time, >= 0.
        budget: the budget of tries.
    """

    address: Address
    key: str | None = field(default=None, repr=False)
    key_env: str = ""
    timeout: float = 60.0
    retries: int = 5
    backoff: float = 1.0
    budget: Budget = field(default_factory=Budget)
    usage: Usage = field(default_factory=Usage)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _open: set[Any] = field(default_factory=set, repr=False)
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    def begin(self) -> None:
        """Accept questions again after `drain` or `stop`."""
        self._stopped.clear()
        self._ended.clear()

    def drain(self) -> None:
        """Let running requests finish, and send no further ones."""
        self._stopped.set()

    def stop(self) -> None:
        """Abort running requests and all waits."""
        self._ended.set()
        self._stopped.set()
        with self._lock:
            under_way = list(self._open)
        for call in under_way:
            call.end()

    def ask(self, body: Mapping[str, Any], read: Callable[[Any], T], subject: str) -> T:
        """Send a question until `read` can parse the reply.

        Args:
            body: the body of the request.
            read: parses the reply's JSON; raises `Unreadable`.
            subject: description of the question, for messages.

        Raises:
            InputError: the endpoint permanently refuses such questions.
            OutsideFailed: it failed `retries` + 1 times, or the budget is used up.
        """
        text = json.dumps(body, ensure_ascii=True).encode("ascii")
        reason = ""
        for attempt in range(self.retries + 1):
            if self._stopped.is_set():
                raise OutsideFailed(f"{subject} was ended")
            self._count(subject, attempt)
            began = time.monotonic()
            try:
                return read(self._parsed(self._post(text)))
            except (Passing, Unreadable) as error:
                reason, wait = self._clean(str(error)), getattr(error, "wait", None)
                if isinstance(error, Unreadable):
                    reason = f"a reply that cannot be read: {reason}"
            finally:
                with self._lock:
                    self.usage.seconds += time.monotonic() - began
            if attempt < self.retries:
                least = random.uniform(0.5, 1.0) * self.backoff * 2.0**attempt
                self._stopped.wait(min(max(least, wait or 0.0), MOST_WAIT))
        with self._lock:
            self.usage.failures += 1
        raise OutsideFailed(
            f"{subject} failed {self.retries + 1} times, at last with {reason}; see that the "
            "server answers, or raise sources.judge.retries or sources.judge.timeout"
        )

    def count_tokens(self, question: int, answer: int) -> None:
        """Add the tokens used by one reply."""
        with self._lock:
            self.usage.input_tokens += question
            self.usage.output_tokens += answer

    def _count(self, subject: str, attempt: int) -> None:
        if not self.budget.take():
            raise OutsideFailed(
                f"max_calls={self.budget.limit} requests are used up before {subject}; go on with "
                "a larger --max-calls, what is in the cache is not asked again"
            )
        with self._lock:
            self.usage.calls += 1
            self.usage.retries += attempt > 0

    def _post(self, text: bytes) -> bytes:
        """Send one request.

        Raises:
            Passing: a retry may succeed.
            InputError: no retry will succeed.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= {"User-Agent": "bioplaus"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        call = _Call(self.address, self.timeout)
        # an overall deadline: a server that sends single bytes would reset any other timeout
        timer = threading.Timer(self.timeout, call.end)
        timer.daemon = True
        with self._lock:
            self._open.add(call)
        timer.start()
        try:
            if self._ended.is_set():
                raise TimeoutError
            status, reply, content = call.send(self.address.target, text, headers)
            if call.ended.is_set():
                raise TimeoutError
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._explain(error, call.ended.is_set())
        finally:
            timer.cancel()
            with self._lock:
                self._open.discard(call)
            call.close()
        if self.key:
            content = content.replace(self.key.encode(), b"***")
        if not 200 <= status < 300:
            self._refused(status, reply, content)
        return content

    def _explain(self, error: Exception, late: bool) -> NoReturn:
        if late or isinstance(error, TimeoutError):
            with self._lock:
                self.usage.timeouts += not self._ended.is_set()
            raise Passing(f"no whole reply within {self.timeout:g} s") from None
        if isinstance(error, ssl.SSLCertVerificationError):
            raise InputError(
                f"{self.address.url}: its certificate is not trusted: {error.verify_message}"
            ) from None
        reason = getattr(error, "strerror", None) or str(error) or "the connection was closed"
        raise Passing(f"{type(error).__name__}: {' '.join(str(reason).split())[:200]}") from None

    def _refused(self, status: int, response: http.client.HTTPResponse, content: bytes) -> NoReturn:
        """Raise the error for an unsuccessful status."""
        reason = f"HTTP {status} {response.reason or ''}".strip()
        body = content[:2000].decode("utf-8", "replace")
        if body.strip():
            reason += f": {excerpt(self._clean(_message(body)), 200)}"
        reason = self._clean(reason)
        if status in _PASSING or status >= 500:
            if status == 429:
                with self._lock:
                    self.usage.rate_limited += 1
            raise Passing(reason, _seconds(response.getheader("Retry-After")))
        url = self.address.url
        if status in (401, 403):
            has = "its key" if self.key else "a request without a key"
            raise InputError(f"{url} refuses {has}: {reason}; set {self.key_env or 'a key_env'}")
        if 300 <= status < 400:
            place = self._clean(str(response.getheader("Location"))[:200])
            raise InputError(f"{url} has moved: {reason}, to {place!r}; give that URL")
        if status == 404:
            raise InputError(f"{url} has no such model or no {PATH}: {reason}; look at its URL")
        hint = "look at the settings sources.judge"
        if "logprob" in body:
            hint = "--set sources.judge.logprobs=false goes by the text of its replies"
        raise InputError(f"{url} refuses the question: {reason}; {hint}")

    def _parsed(self, content: bytes) -> Any:
        if len(content) > MOST_BYTES:
            raise Unreadable(f"it is longer than {MOST_BYTES // 2**20} MiB")
        try:
            return json.loads(content.decode("utf-8"))
        except (ValueError, RecursionError):
            start = excerpt(content[:400].decode("utf-8", "replace"), 80)
            raise Unreadable(f"it is no JSON: {start}") from None

    def _clean(self, text: str) -> str:
        """Remove the key from a text, because a server may echo it."""
        return text.replace(self.key, "***") if self.key else text


def _message(body: str) -> str:
    """The error message in a response, which is usually JSON."""
    try:
        found = json.loads(body)
        inner = found.get("error", found)
        message = inner.get("message") if isinstance(inner, dict) else inner
        return message if isinstance(message, str) else body
    except (ValueError, AttributeError, RecursionError):
        return body


def _seconds(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which is a number or a date."""
    if header is None:
        return None
    try:
        found = float(header)
    except ValueError:
        try:
            found = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(found, 0.0) if found < float("inf") else None


class _Call:
    """A running request that another thread can abort."""

    def __init__(self, address: Address, timeout: float) -> None:
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        kind = kinds[address.scheme]
        self._connection = kind(address.host, address.port, timeout=timeout)
        # the connection releases its socket while the reply is still being read
        self._socket: socket.socket | None = None
        self.ended = threading.Event()

    def send(
        self, target: str, text: bytes, headers: Mapping[str, str]
    ) -> tuple[int, http.client.HTTPResponse, bytes]:
        """The status, the response and its content, read up to MOST_BYTES + 1 bytes."""
        self._connection.connect()
        self._socket = self._connection.sock
        if self.ended.is_set():
            raise TimeoutError
        self._connection.request("POST", target, body=text, headers=dict(headers))
        reply = self._connection.getresponse()
        return reply.status, reply, reply.read(MOST_BYTES + 1)

    def end(self) -> None:
        """Abort the request, so that no thread waits for it any longer."""
        self.ended.set()
        for found in (self._socket, self._connection.sock):
            if found is not None:
                with contextlib.suppress(OSError, ValueError):
                    found.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
