"""Figures; matplotlib is imported where one is drawn."""
