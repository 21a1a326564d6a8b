"""Call the command line in the tests, and look at how it refuses."""

from __future__ import annotations

from click.testing import CliRunner, Result

import cli


def call(command: str, *args: object) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(cli.main, [command, *map(str, args)])


def refused(result: Result, *words: str) -> bool:
    """Exit 2, one line on stderr with the words, no traceback."""
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.output
    return True
