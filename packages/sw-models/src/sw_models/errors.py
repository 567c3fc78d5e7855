"""What a program stops with, apart from its own faults: bad input, and a signal."""


class InputError(ValueError):
    """An argument, a file or a data set is not what was wanted; the message says in one line which and what is.

    Args:
        message: of one line; line breaks in what it quotes of a file become spaces.

    Example:
        >>> raise InputError("size: got -1, want at least 1")
        Traceback (most recent call last):
        sw_models.errors.InputError: size: got -1, want at least 1
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


class Interrupted(Exception):
    """Work was stopped by a signal, and what was done is saved.

    Args:
        message: says in one line how to go on.
        number: of the signal.

    Attributes:
        exit_code: what a shell reports for a process that the signal has ended.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number
