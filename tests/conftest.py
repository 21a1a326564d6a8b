"""What every test begins with."""

import os
import signal

# Tests run in one process a core: see addopts in pyproject.toml. More threads would only wait.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Take signals as a program in a terminal does, also under nohup or in the background.

    Both have their children ignore signals that many tests send.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
