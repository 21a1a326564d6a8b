"""The front door of a checkout: `python cli.py COMMAND`. Installed, it is `bioplaus COMMAND`."""

from bioplaus_cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
