"""What goes wrong that the user can put right."""


class UserError(Exception):
    """Something the user can put right: printed as one line, exit code 2, no traceback.

    The message names the file, field or option, the value given, and what would have been right.
    """
