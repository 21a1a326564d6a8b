"""Preferences: the sources of a game's win probabilities."""
