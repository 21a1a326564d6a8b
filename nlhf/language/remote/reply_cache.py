"""A disk cache of a judge's replies, keyed by the content of the question."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MOST_BYTES = 2**20


class ReplyCache:
    """Replies by key, one file each, so that several processes can share a folder.

    A damaged file is ignored and rewritten. If the folder is not writable, the judge works without
    the cache.
    """

    def __init__(self, folder: Path | None) -> None:
        """Open the folder; None keeps replies in memory only.

        Problems with the folder are reported in `problem`.
        """
        self._folder = folder
        self._known: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self.damaged = 0
        """Number of damaged files."""
        self.unwritten = 0
        """Number of replies that could not be written."""
        self.problem: str | None = None
        """The first problem with the folder, in one line."""
        if folder is not None:
            with self._writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".probe-{secrets.token_hex(6)}"
                probe.touch()
                probe.unlink()

    def get(self, key: str) -> dict[str, Any] | None:
        """The reply stored under a key; None if there is none or it cannot be trusted."""
        with self._lock:
            if key in self._known:
                return self._known[key]
        if self._folder is None:
            return None
        path = self._path(self._folder, key)
        try:
            with path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._damaged(path, error.strerror or str(error))
            return None
        found = _checked(text, key)
        if found is None:
            self._damaged(path, "its content does not fit its checksum")
            return None
        with self._lock:
            self._known[key] = found
        return found

    def put(self, key: str, reply: Mapping[str, Any]) -> None:
        """Store a reply of JSON values."""
        kept = dict(reply)
        with self._lock:
            self._known[key] = kept
        if self._folder is None:
            return
        path = self._path(self._folder, key)
        text = json.dumps({"key": key, "reply": kept, "sha256": _digest(key, kept)})
        # another process may write the same reply
        new = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
        with self._writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                new.write_text(text + "\n", "utf-8")
                os.replace(new, path)
            except OSError:
                with contextlib.suppress(OSError):
                    new.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Any:
        try:
            yield
        except OSError as error:
            with self._lock:
                self.unwritten += 1
                self.problem = self.problem or (
                    f"cache {path} cannot be written ({error.strerror or error}); replies are "
                    "kept in memory only"
                )

    def _damaged(self, path: Path, why: str) -> None:
        with self._lock:
            self.damaged += 1
            self.problem = self.problem or f"cache {path} is damaged ({why}); it is asked anew"

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key[2:]}.json"


def key_of_question(*parts: object) -> str:
    """The sha256 of the JSON of everything that determines a reply."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def cache_folder(setting: str) -> Path | None:
    """The folder for a setting.

    Args:
        setting: a folder; "auto" for one of the user's (in XDG_CACHE_HOME or ~/.cache); "off" for
            none.
    """
    if setting == "off":
        return None
    if setting != "auto":
        return Path(os.path.expanduser(setting))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "bioplaus" / "judges"


def _checked(text: bytes, key: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
        kept, digest = found["reply"], found["sha256"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if found["key"] != key or not isinstance(kept, dict) or digest != _digest(key, kept):
        return None
    return kept


def _digest(key: str, reply: Mapping[str, Any]) -> str:
    return key_of_question(key, reply)
