"""What every test begins with."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest
import torch

# Tests run in one process a core: see addopts in pyproject.toml. More threads would only wait.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# Triton asks once, when something first imports it; without a GPU its kernels run in Python.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure() -> None:
    """Take signals as a program in a terminal does, also under nohup or in the background.

    Both have their children ignore signals that many tests send.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def forget_users_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let no module of a test's folder be found by the next test, which may have one so named."""
    path, known = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    folder = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - known:
        file = vars(sys.modules[name]).get("__file__")
        if isinstance(file, str) and file.startswith(folder):
            del sys.modules[name]
