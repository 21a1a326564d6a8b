"""Read battles and preferences: one reader for everything, one format a file."""

from nlhf.preferences.reading.sources import SHIPPED, load_preferences, read_battles, read_games

__all__ = ["SHIPPED", "load_preferences", "read_battles", "read_games"]
