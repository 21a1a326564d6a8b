"""Read battles and preferences: one entry point, one file per format."""

from nlhf.preferences.reading.sources import SHIPPED, load_preferences, read_battles, read_games

__all__ = ["SHIPPED", "load_preferences", "read_battles", "read_games"]
