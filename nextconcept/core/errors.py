"""The errors that users are meant to see."""

__all__ = ["InputError", "TrainingError", "own_error"]


class InputError(ValueError):
    """A bad configuration, file, prompt or checkpoint.

    The message is one sentence for the user: what is wrong, where, and what to do instead.
    The command line prints it and exits with code 2; in Python it is a ``ValueError``.
    """


def own_error(error: BaseException) -> InputError | None:
    """Return the error of this package that a library has wrapped in its own, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    return cause


class TrainingError(RuntimeError):
    """Training that can't continue although its settings are valid, as when numbers overflow.

    The command line prints the message and exits with code 1.
    """
