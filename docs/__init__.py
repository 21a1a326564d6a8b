"""The documentation; `making` writes what is not written by hand."""
