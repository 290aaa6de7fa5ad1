"""The one error a user is meant to read."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one clear sentence that names the file or the option and says what to do. The
    command line prints it without a traceback and exits with status 2.
    """
