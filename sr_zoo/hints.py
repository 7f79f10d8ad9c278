"""Lightning without its hints, which are for those who write trainings."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = ["without_hints"]


@contextlib.contextmanager
def without_hints(of: str = "lightning") -> Iterator[None]:
    """Until the block ends, Lightning tells of errors only, and no warning comes from modules whose name begins with ``of``."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=of)
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
