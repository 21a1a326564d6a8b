"""Numbers of a run as they come, for whoever watches: TensorBoard, Weights & Biases, Trackio."""

from __future__ import annotations

import importlib
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bridge.errors import InputError, StorageError
from bridge.runlog.tensorboard import records, version_record


class Watcher(Protocol):
    """Is told of every record of a run, while it goes on."""

    def log(self, table: str, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of one record."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class TensorBoard:
    """Appends to an event file that TensorBoard reads as it grows; nothing needs installing."""

    def __init__(self, folder: Path) -> None:
        """Begin a file in a folder."""
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / name).open("ab")
            self._write(version_record(time.time()))
        except OSError as error:
            raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from None

    def log(self, table: str, step: int, values: Mapping[str, float]) -> None:
        """Append scalars, tagged table/name."""
        tagged = {f"{table}/{name}": float(value) for name, value in values.items()}
        for record in records(time.time(), {step: tagged}):
            self._write(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()


class Service:
    """Weights & Biases or Trackio, which have one interface."""

    def __init__(self, kind: str, name: str, config: Mapping[str, Any]) -> None:
        """Begin a run of the service's default project, or the one that its environment names.

        Raises:
            InputError: the package is not installed, or refuses.
        """
        try:
            self._module: Any = importlib.import_module(kind)
        except ImportError:
            raise InputError(
                f"report_to={kind}: {kind} is not installed; pip install {kind}"
            ) from None
        project = os.environ.get(f"{kind.upper()}_PROJECT", "bioplaus")
        try:
            self._module.init(project=project, name=name, config=dict(config))
        except Exception as error:  # a service fails in its own ways
            said = " ".join(str(error).split())[:200]
            raise InputError(f"report_to={kind}: {type(error).__name__}: {said}") from None

    def log(self, table: str, step: int, values: Mapping[str, float]) -> None:
        """Send scalars, named table/name."""
        self._module.log({f"{table}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """End the run."""
        self._module.finish()


WATCHERS = ("tensorboard", "wandb", "trackio")


class Watchers:
    """Several as one; a record's numbers are told, its texts are not."""

    def __init__(self, names: Sequence[str], log: Path, config: Mapping[str, Any]) -> None:
        """Begin with each of WATCHERS that is named; TensorBoard's folder is beside the log."""
        self._all: list[Watcher] = []
        for kind in names:
            if kind == "tensorboard":
                self._all.append(TensorBoard(log.with_suffix(".tensorboard")))
            else:
                self._all.append(Service(kind, log.stem, config))

    def log(self, table: str, record: Any) -> None:
        """Tell of a record with a step."""
        values = {
            name: value
            for name, value in vars(record).items()
            if name != "step" and isinstance(value, int | float) and value == value
        }
        for each in self._all:
            each.log(table, record.step, values)

    def __enter__(self) -> Watchers:
        return self

    def __exit__(self, *error: object) -> None:
        for each in self._all:
            each.close()
