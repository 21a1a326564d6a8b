"""Call the command line in the tests, and check its refusals."""

from __future__ import annotations

from click.testing import CliRunner, Result

import cli


def call(command: str, *args: object) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(cli.main, [command, *map(str, args)])


def refused(result: Result, *words: str) -> bool:
    """Whether it refused: exit code 2, one line on stderr with the words, no traceback.

    If data were read before the mistake could be detected, their card is printed above it.
    """
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("data: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.output
    return True
