"""The picture as data, which decoders make and encoders take: what it holds, its limits, and errors of one line that name the file.

Below all that reads and writes files; what users call is in :mod:`sr_zoo.picture`.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from sr_zoo.errors import UserError, one_line

__all__ = ["DPI", "MAX_PIXELS", "NOT_PICTURES", "Picture", "PictureError", "named_errors"]

# Formats that Pillow opens but that are documents, drawings, films or containers of science data.
NOT_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
# Room for 20000×20000, which decoded takes 1.2 GB in RGB. What claims more is a bomb, or somebody who knows.
MAX_PIXELS = 500_000_000
# Between these, pixels per inch are taken for a resolution; all containers hold them.
DPI = 0.01, 100_000.0


class PictureError(UserError):
    """A file that cannot be read or written as a picture; the message names it and says what to do."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture with all that must survive upscaling, upright.

    Attributes:
        colours: uint8 or uint16 ``(height, width, channels)``: 1 grey, 3 RGB, 4 CMYK (ink, 0 is none). Not premultiplied.
        alpha: ``(height, width)`` of the same type, the largest value opaque; None where all is opaque.
        icc: the colour profile, as in the file.
        exif: as in the file, from the TIFF header on, without orientation (which was applied) and thumbnail.
        dpi: pixels per inch, horizontally and vertically.
        notes: what a user should know of how it was read, a sentence each.
    """

    colours: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.colours.shape[1], self.colours.shape[0]

    @property
    def peak(self) -> int:
        """The largest value: 255 or 65535."""
        return int(np.iinfo(self.colours.dtype).max)


@contextlib.contextmanager
def named_errors(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong with a file until the block ends is a PictureError of one line that names it."""
    try:
        yield
    except PictureError as error:
        raise PictureError(str(error) if str(error).startswith(f"{path}: ") else f"{path}: {error}") from None
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except PermissionError:
        raise PictureError(f"{path}: permission denied") from None
    except MemoryError:
        raise PictureError(f"{path}: not enough memory to decode it") from None
    except UnidentifiedImageError:
        raise PictureError(f"{path}: is not a picture that can be read") from None
    except OSError as error:
        raise PictureError(f"{path}: {error.strerror or f'damaged or truncated ({one_line(error)})'}") from None
    except Exception as error:
        # Damaged files make decoders raise nearly anything (SyntaxError, struct.error, RuntimeError, …).
        raise PictureError(f"{path}: damaged or truncated ({one_line(error)})") from None
