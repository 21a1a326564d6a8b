"""The command line: parses, dispatches and prints; holds no science."""

from __future__ import annotations

import click


@click.group()
def main() -> None:
    """Learn without backpropagation, and find what no one can beat."""


if __name__ == "__main__":
    main()
