"""The one exception for what a person has to correct."""


class InputError(ValueError):
    """An argument, a file or a data set is not what was wanted; the message says in one line which and what is."""
