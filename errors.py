"""What can go wrong, by exit code: every message is one sentence that says what, where and what to do."""


class EdgeattnError(Exception):
    """Base of every error edgeattn raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class CheckFailed(EdgeattnError):
    """A check ran and failed: the accuracy gate, a parity comparison, a damaged bundle. Exit code 1."""


class GateFailed(CheckFailed):
    """No candidate agrees with the reference within the tolerance."""


class BundleError(CheckFailed):
    """A bundle was changed, truncated or never was one; the message names the file."""


class EngineError(EdgeattnError):
    """An engine does not take a graph, or stops while it runs. Exit code 1."""


class InputError(EdgeattnError):
    """What the user gave is wrong: a file, an option, an array. Exit code 2."""

    exit_code = 2


class UntrustedError(InputError):
    """A file would run code when read; refused unless the user says --trust."""


class MissingError(EdgeattnError):
    """Something needed is not installed or not reachable; the message says how to get it. Exit code 3."""

    exit_code = 3


def first_line(error: Exception, limit: int = 300) -> str:
    """What an exception says in its first line, at most `limit` characters; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:limit]
