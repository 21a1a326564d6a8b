"""`python -m bioplaus`: the command line."""

from bioplaus_cli.main import main

if __name__ == "__main__":
    main()
