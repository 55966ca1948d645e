"""Errors that the user can fix."""


class UserError(Exception):
    """Something the user can put right: printed as one line, exit code 2, no traceback.

    The message names the file, field or option, the value given, and what would have been right.
    """


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
