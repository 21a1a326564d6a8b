"""Preferences: where the win probabilities of a game come from."""
