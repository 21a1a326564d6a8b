"""Readers, one file per format; `bioplaus.data.registry` finds them."""
