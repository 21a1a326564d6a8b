"""Live metrics of a run for TensorBoard, Weights & Biases and Trackio."""

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
    """Receives every record of a run while it goes on."""

    def log(self, table: str, step: int, values: Mapping[str, float]) -> None:
        """Receive the numbers of one record."""
        ...

    def close(self) -> None:
        """Write buffered values and close."""
        ...


class TensorBoard:
    """Appends to an event file that TensorBoard reads as it grows; needs no extra package."""

    def __init__(self, folder: Path) -> None:
        """Create a file in a folder."""
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
    """Weights & Biases or Trackio, which share one interface."""

    def __init__(self, kind: str, name: str, config: Mapping[str, Any]) -> None:
        """Start a run in the service's default project, or in the one that its environment sets.

        Raises:
            InputError: the package is not installed, or it refuses.
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
        except Exception as error:  # services raise errors of their own
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"report_to={kind}: {type(error).__name__}: {reason}") from None

    def log(self, table: str, step: int, values: Mapping[str, float]) -> None:
        """Send scalars, named table/name."""
        self._module.log({f"{table}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """End the run."""
        self._module.finish()


WATCHERS = ("tensorboard", "wandb", "trackio")


class Watchers:
    """Several watchers as one; they receive the numbers of a record, not its texts."""

    def __init__(self, names: Sequence[str], log: Path, config: Mapping[str, Any]) -> None:
        """Start each named member of WATCHERS; TensorBoard's folder is next to the log."""
        self._all: list[Watcher] = []
        for kind in names:
            if kind == "tensorboard":
                self._all.append(TensorBoard(log.with_suffix(".tensorboard")))
            else:
                self._all.append(Service(kind, log.stem, config))

    def log(self, table: str, record: Any) -> None:
        """Pass on a record that has a step."""
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
