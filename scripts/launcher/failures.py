"""The one error of the launcher: something a person can mend, said in words and without a stack trace."""


class LauncherError(Exception):
    """Stops the command with a message for people. `hint` says what to do about it, on a line of its own."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
