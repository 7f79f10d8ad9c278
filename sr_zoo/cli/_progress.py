"""How far a long command is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time

__all__ = ["Progress"]

EVERY = 10.0


class Progress:
    """Tells of ``total`` pictures on stderr: what is left, pictures per second, seconds to go.

    Args:
        shown: False tells nothing.
    """

    def __init__(self, total: int, shown: bool = True):
        self.total, self.number, self.worked, self.bar = total, 0, 0, None
        self.shown, self.started = shown, time.monotonic()
        self.told = self.started
        if shown and sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit=" pictures", file=sys.stderr, dynamic_ncols=True, leave=False)

    def advance(self, worked: bool = True) -> None:
        """One more is dealt with; ``worked`` is False for what was only skipped and says nothing of the time to go."""
        self.number += 1
        self.worked += worked
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update()
        elif self.shown and now - self.told >= EVERY and self.number < self.total:
            self.told = now
            print(self.line(now - self.started), file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """What is told after so many seconds."""
        rate = self.worked / seconds
        left = f", {rate:.3g} per second, {_clock((self.total - self.number) / rate)} left" if rate else ""
        return f"sr-zoo: {self.number:,} of {self.total:,} pictures{left}"

    def print(self, text: str, file) -> None:
        """A line of its own, above the bar."""
        if self.bar is None:
            print(text, file=file, flush=True)
        else:
            with self.bar.external_write_mode(file=file):
                print(text, file=file, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
