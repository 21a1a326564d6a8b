"""The commands, one file each: what `main` puts together."""
