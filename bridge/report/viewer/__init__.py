"""h5web's viewer for one log: a static page and the log, on this machine's own address only.

The page's sources are in `web/`, built into `static/` (see docs/seeing-runs.md).
"""

from __future__ import annotations

import shutil
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from bridge.errors import InputError, StorageError
from bridge.report.loopback import HTML, TEXT, Handler, Loopback
from bridge.runlog import snapshot
from bridge.runlog.stream import open_log

LOG = "log.h5"
_TYPES = {
    ".html": HTML,
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".wasm": "application/wasm",
    ".txt": TEXT,
}
# The page may load nothing but itself and the log. Its worker, which reads HDF5 by WebAssembly,
# lies inside its script; its arrays (ndarray) compile their loops, hence 'unsafe-eval'.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval' blob:; worker-src blob: data:; "
    "connect-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Viewer(Loopback):
    """Serves the viewer's page and one log, and nothing else."""

    policy = _POLICY

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
        super().__init__(port, _Handler)


class _Handler(Handler):
    server: Viewer  # pyright: ignore[reportIncompatibleVariableOverride]

    def give(self, name: str) -> None:
        if name == LOG:
            self._log()
        elif name in self.server.files:
            kind, data = self.server.files[name]
            self.head(HTTPStatus.OK, kind, len(data))
            self.body(data)
        else:
            self.refuse(HTTPStatus.NOT_FOUND)

    def _log(self) -> None:
        try:
            with snapshot(self.server.log) as file:
                size = file.seek(0, 2)
                file.seek(0)
                name = {"X-Log-Name": quote(self.server.log.name)}
                self.head(HTTPStatus.OK, "application/x-hdf5", size, name)
                if self.command != "HEAD":
                    shutil.copyfileobj(file, self.wfile)
        except (InputError, StorageError) as error:
            self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


def _files() -> dict[str, tuple[str, bytes]]:
    """Read the built page: type and content by path; its index is the empty path."""
    static = resources.files("bridge.report.viewer") / "static"
    found = {"": static / "index.html"}
    found |= {f"assets/{each.name}": each for each in (static / "assets").iterdir()}
    return {
        name: (_TYPES[Path(each.name).suffix], each.read_bytes()) for name, each in found.items()
    }
