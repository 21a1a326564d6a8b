"""What every test begins with."""

import signal


def pytest_configure() -> None:
    """Take signals as a program in a terminal does, also under nohup or in the background.

    Both have their children ignore signals that many tests send.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
