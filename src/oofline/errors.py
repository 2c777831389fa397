"""The three ways a command ends early."""


class OoflineError(Exception):
    """The user's input, configuration or machine is at fault: one line, exit code 2.

    The message says what is wrong, where, and what to do about it.
    """


class ConfigError(OoflineError):
    """A setting is unknown, of the wrong type, or contradicts another one."""


class DataError(OoflineError):
    """A competition file, fold file or result file is missing, unreadable or inconsistent."""


class Stopped(Exception):  # noqa: N818 - not an error: the work can go on
    """Training stopped on purpose (time limit, Ctrl-C) with its state saved.

    Attributes:
        exit_code: 0 for a time limit the user set, 130 for an interrupt.
    """

    def __init__(self, message: str, exit_code: int = 0) -> None:
        super().__init__(message)
        self.exit_code = exit_code
