"""The one error that users are meant to see."""

__all__ = ["InputError"]


class InputError(ValueError):
    """A bad configuration, file, prompt or checkpoint.

    The message is one sentence for the user: what is wrong, where, and what to do instead.
    The command line prints it and exits with code 2; in Python it is a ``ValueError``.
    """
