"""Layouts, one a file; `nlhf.language.reading.registry` finds them."""
