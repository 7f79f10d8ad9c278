"""What is told to a user: errors of one line, and shares that are never rounded up."""

__all__ = ["UserError", "one_line", "percent"]


class UserError(ValueError):
    """Something that the user can mend; the message is one line that names the file or option and what to do."""


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def percent(share: float) -> str:
    """``0.999999`` → ``99.999 %``: only a whole is 100 %."""
    return "100 %" if share == 1 else f"{int(share * 1e5) / 1e3:.3f} %"
