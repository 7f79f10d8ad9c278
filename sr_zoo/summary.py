"""What became of many pictures: one result for each that was to be written, and the figures of all."""

import csv
import dataclasses
from pathlib import Path

from sr_zoo.engine import Upscaled
from sr_zoo.errors import percent
from sr_zoo.files import whole
from sr_zoo.places import place
from sr_zoo.raster import Picture

__all__ = ["Result", "Summary", "write_report"]

_SIZES = ("to_width", "to_height", "network_width", "network_height")  # the figures are of the network's picture
_FIGURES = ("reproduced", "lr_psnr", "lr_psnr_8bit", "seconds")


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one picture, or of one sample of it.

    Attributes:
        source: where it came from, a path or URL.
        target: where it went or should have gone.
        state: ``"done"``, ``"skipped"`` (it was there) or ``"failed"``.
        reason: of a failure, one line that names the file.
        trace: of a failure that nobody foresaw, for a report of it.
        size: width and height of the input in pixels; this and what follows is known if it is done.
        to_size: width and height of what was saved.
        network_size: width and height before a resize to the size that was asked for; None where there was none.
        samples: of the input: colours where it is not wholly transparent, and alpha; 0 where they cannot be compared.
        reproduced: share of them that the saved file gives back after downsampling and rounding.
        lr_psnr: dB between the downsampled float output and the input.
        lr_psnr_8bit: the same for the saved file.
        seconds: of computing, without reading and writing.
        spread: of a picture's samples, with the last of them: mean standard deviation of a pixel, in levels of 255.
        notes: what a user should know of how the picture was read.
    """

    source: str
    target: str
    state: str
    reason: str = ""
    trace: str = ""
    size: tuple[int, int] = (0, 0)
    to_size: tuple[int, int] = (0, 0)
    network_size: tuple[int, int] | None = None
    samples: int = 0
    reproduced: float = 0.0
    lr_psnr: float = 0.0
    lr_psnr_8bit: float = 0.0
    seconds: float = 0.0
    spread: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, source: str, target: str, picture: Picture, done: Upscaled, final: Picture, spread: float | None = None
    ) -> "Result":
        """Of a ``picture``, what it became, and the ``final`` one that is saved."""
        figures = {name: getattr(done, name) for name in _FIGURES}
        network_size = None if final.size == done.picture.size else done.picture.size
        sizes = {"size": picture.size, "to_size": final.size, "network_size": network_size, "samples": done.samples}
        return cls(source, target, "done", **sizes, **figures, spread=spread, notes=picture.notes)

    def sentence(self) -> str:
        """The proof, in one line."""
        share = f"{percent(self.reproduced)} ({round(self.reproduced * self.samples):,} of {self.samples:,})"
        if not self.samples:
            return (
                f"{self.source} {_times(self.size)} → {self.target} {_times(self.to_size)} in {self.seconds:.2f} s; what the saved "
                "file gives back cannot be told, as it is of another kind than the input"
            )
        what = "downsampled, the saved file gives back"
        if self.network_size:
            what = f"before its resize from {_times(self.network_size)}, downsampled, it gives back"
        return (
            f"{self.source} {_times(self.size)} → {self.target} {_times(self.to_size)} in {self.seconds:.2f} s; "
            f"{what} {f'all {self.samples:,}' if self.reproduced == 1 else share} of the input's samples (LR-PSNR "
            f"{self.lr_psnr_8bit:.1f} dB {'rounded' if self.network_size else 'saved'}, {self.lr_psnr:.1f} dB before rounding)"
        )


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of all pictures.

    Attributes:
        results: in the order in which they were known.
        seconds: from the first picture to the last, of the slowest process.
        exact: whether the model promises consistency.
        others: number of files in folders that are no pictures by their suffix.
        failures: what failed beside pictures, such as folders that cannot be listed, a line each.
    """

    results: tuple[Result, ...]
    seconds: float
    exact: bool = True
    others: int = 0
    failures: tuple[str, ...] = ()

    def count(self, state: str) -> int:
        """Number of results that are ``"done"``, ``"skipped"`` or ``"failed"``."""
        return sum(r.state == state for r in self.results)

    @property
    def failed(self) -> int:
        """Number of all that failed: exit code 1 unless 0."""
        return self.count("failed") + len(self.failures)

    @property
    def reproduced(self) -> float:
        """Share of all samples of all inputs that the saved files give back; 1 for none."""
        samples = sum(r.samples for r in self.results)
        wrong = sum(round((1 - r.reproduced) * r.samples) for r in self.results)
        return 1 - wrong / samples if wrong else 1.0

    @property
    def worst(self) -> Result | None:
        """The picture that gives back the smallest share, the first of equals; None where there is none."""
        return min((r for r in self.results if r.samples), key=lambda r: r.reproduced, default=None)

    def sentence(self) -> str:
        """All in one line."""
        done = self.count("done")
        rate = f" ({done / self.seconds:.3g} per second)" if done else ""
        counts = [f"{done:,} picture{'s' * (done != 1)} upscaled in {self.seconds:.1f} s{rate}"]
        others = f"other file{'s' * (self.others != 1)} left alone"
        for number, text in ((self.failed, "failed"), (self.count("skipped"), "skipped"), (self.others, others)):
            counts += [f"{number:,} {text}"] * bool(number)
        if not any(r.samples for r in self.results):
            return ", ".join(counts)
        worst = "" if self.reproduced == 1 else f" (worst: {self.worst.source}, {percent(self.worst.reproduced)})"
        resized = any(r.network_size for r in self.results)
        what = "before their resize, downsampled, they give back" if resized else "downsampled, the saved files give back"
        return f"{', '.join(counts)}; {what} {percent(self.reproduced)} of the input's samples{worst}" + (
            "" if self.exact else "; this model does not promise consistency"
        )


def write_report(path: str | Path, summary: Summary) -> None:
    """A table of all results as CSV, a row each, sorted by source; it appears whole or not at all.

    Args:
        path: or a URL that fsspec understands.

    Raises:
        OSError: the place cannot be written.
        PlaceError: that of the URL cannot be reached.
    """
    path = str(path)
    with (
        place(path).stored(path) as local,
        whole(local) as beside,
        beside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.writer(file)
        table.writerow(("source", "target", "state", "width", "height", "samples", *_FIGURES, "reason", *_SIZES))
        for r in sorted(summary.results, key=lambda r: (r.source, r.target)):
            figures = (
                *r.size,
                r.samples,
                *(getattr(r, name) if r.samples or name == "seconds" else "" for name in _FIGURES),
            )
            sizes = (*r.to_size, *(r.network_size or r.to_size))
            if r.state != "done":
                figures, sizes = [""] * len(figures), [""] * len(sizes)
            table.writerow((r.source, r.target, r.state, *figures, r.reason, *sizes))


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
