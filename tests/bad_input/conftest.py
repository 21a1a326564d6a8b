"""No bad name is asked for on a hub."""

import importlib.util

import pytest

from tests.bad_input.refusing import given


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the number of bad inputs by kind."""
    if given:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(given.items()))
        terminalreporter.write_line(f"bad inputs: {given.total()} ({kinds})")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("huggingface_hub"):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
