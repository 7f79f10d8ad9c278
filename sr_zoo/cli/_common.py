"""What the commands share: errors of one line, and checks of options."""

import argparse
import sys

__all__ = ["UsageError", "complain", "positive"]


class UsageError(ValueError):
    """Options that contradict each other: exit code 2."""


def complain(error, code: int) -> int:
    """Tell an error in one line; returns the exit code."""
    print(f"sr-zoo: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def positive(text: str) -> int:
    """A whole number of 1 or more, for ``type=``."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)
