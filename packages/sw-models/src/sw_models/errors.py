"""What a user can mend: bad input, shown as one line."""


class InputError(ValueError):
    """An argument, a file or a data set is not what was wanted; the message says which and what is."""
