"""Layouts, one per file; `nlhf.language.reading.registry` finds them."""
