"""Set-up of every test."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest
import torch

# Tests run in one process per core: see addopts in pyproject.toml. More threads would only wait.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# Triton checks this once, at its first import; without a GPU its kernels run in Python.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure() -> None:
    """Handle signals like a program in a terminal, even under nohup or in the background.

    In these cases children inherit ignored signals, which many tests send.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def forget_users_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep modules in a test's folder from being found by the next test, which may reuse names."""
    path, known = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    folder = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - known:
        file = vars(sys.modules[name]).get("__file__")
        if isinstance(file, str) and file.startswith(folder):
            del sys.modules[name]
