"""The error that a user's mistake raises."""


class InputError(ValueError):
    """A value a user gave cannot be used; the message names it, what is legal, and the fix."""
