"""The commands, one file each: what `cli.py` puts together."""
