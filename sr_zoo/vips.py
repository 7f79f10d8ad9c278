"""libvips, quiet: what it has to say comes as an exception."""

import os

# Read once, when the library starts: its warnings would go to stderr past Python.
os.environ.setdefault("VIPS_WARNING", "0")

import pyvips

__all__ = ["pyvips", "reason"]

# An operation that is kept would give back a file as it was before it was rewritten, and hold its memory.
pyvips.cache_set_max(0)


def reason(error: pyvips.Error) -> str:
    """The last line of what the library says; those before may be of earlier files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "unknown reason"
