"""What goes wrong on a board, in one sentence that says what to do."""


class KitError(Exception):
    """The message is for the person at the board."""
