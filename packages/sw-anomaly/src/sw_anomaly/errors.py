"""The one exception for input that a person has to correct."""


class InputError(ValueError):
    """Bad input; its message is one line that names the thing and what is wanted."""
