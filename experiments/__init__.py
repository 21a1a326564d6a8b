"""Experiments, one command each."""
