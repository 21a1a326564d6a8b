"""Run many steps of a game in a single GPU launch."""
