"""Readers, one format a file; `bioplaus.data.registry` finds them."""
